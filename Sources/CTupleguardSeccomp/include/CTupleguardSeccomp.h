// SPDX-License-Identifier: Apache-2.0
// System calls of other processes that wait for this one (seccomp_unotify(2)), and what it takes to
// look at their arguments.
#ifndef TUPLEGUARD_SECCOMP_H
#define TUPLEGUARD_SECCOMP_H

#if __has_feature(modules)
#pragma clang module import SwiftGlibc
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Puts a filter on the calling thread, and on all that it starts from here on: its calls of bind()
/// wait for an answer, and those of getsockname() if asked; others go their way. So do calls by
/// another ABI of the machine (32 bits), and those with an address too short for IPv4.
///
/// Without CAP_SYS_ADMIN it sets no_new_privs first, as the kernel asks.
///
/// \returns a descriptor, with FD_CLOEXEC, at which the calls are answered; -1 with errno. EBUSY:
/// there is one already, of another supervisor.
int seccomp_hold_binds(bool with_getsockname);

/// A call that waits.
struct seccomp_call {
	/// What to answer it by.
	uint64_t id;
	/// The thread, in this process's PID namespace; 0 when it is not visible there.
	uint32_t thread;
	/// A bind(), else a getsockname().
	bool is_bind;
	/// Its arguments, of which the process may have given any.
	int32_t descriptor;
	uint64_t address;
	uint32_t length;
};

/// Waits for the next call; -1 with errno. ENOENT: it ended before it could be read.
int seccomp_next_call(int listener, struct seccomp_call *call);

/// Whether it still waits: if so, what `thread` meant when it was asked is what it meant before.
bool seccomp_is_waiting(int listener, uint64_t id);

/// Lets it go its way, unchanged; -1 with errno. ENOENT: it has ended.
int seccomp_continue(int listener, uint64_t id);

/// Has the kernel run an answered caller at once, on the processor of who answered
/// (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6); older kernels go without.
void seccomp_answer_synchronously(int listener);

/// A descriptor of a thread's process, for seccomp_take_descriptor(); -1 with errno. EINVAL: before
/// Linux 6.9, of a thread that is not its process's first.
int seccomp_open_thread(uint32_t thread);

/// The same, of a process by its first thread.
int seccomp_open_process(uint32_t process);

/// A copy of a process's descriptor, with FD_CLOEXEC (pidfd_getfd(2)); -1 with errno.
int seccomp_take_descriptor(int process, int descriptor);

/// Copies memory of a thread's process: how many bytes there were, or -1 with errno.
ssize_t seccomp_read_memory(uint32_t thread, uint64_t address, void *bytes, size_t count);

/// Sends a descriptor over a Unix socket; -1 with errno.
int seccomp_send_descriptor(int channel, int descriptor);

/// Receives what seccomp_send_descriptor() sent, with FD_CLOEXEC; -1 with errno. ENODATA: the other
/// end was closed instead.
int seccomp_receive_descriptor(int channel);

/// Has a signal sent to this process when the thread that started it ends (PR_SET_PDEATHSIG).
int seccomp_end_with_parent(int signal);

/// Makes descendants that lose their parent this process's children (PR_SET_CHILD_SUBREAPER).
int seccomp_adopt_orphans(void);

#endif
