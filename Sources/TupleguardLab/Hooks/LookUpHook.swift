// SPDX-License-Identifier: Apache-2.0
// The look-up-only design, to be measured beside the guard. The guard does not use it.

import CTupleguardLibbpf
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Programs that refuse a UDP connect (EPERM) when the kernel's socket table has its 4-tuple
/// already, on a cgroup for as long as this value lives. They have no memory of their own, and lose
/// races.
struct LookUpHook: ~Copyable {
    private let connect4: Link
    private let connect6: Link

    /// - Throws: `GuardError` when they cannot be loaded or attached; nothing is left attached
    /// then.
    init(attachingTo cgroup: Cgroup) throws(GuardError) {
        try Platform.check()
        let object = try BPFObject(lookUpObjectWords, length: lookUpObjectLength, name: "look_up")
        let pointer = object.pointer
        try performByLibbpf("load the look-up programs into the kernel") {
            bpf_object__load(pointer)
        }
        let connect4 = try Link(
            attaching: Self.program("look_up_connect4", of: pointer), to: cgroup, at: .connect4)
        let connect6 = try Link(
            attaching: Self.program("look_up_connect6", of: pointer), to: cgroup, at: .connect6)
        self.connect4 = connect4
        self.connect6 = connect6
    }

    /// The descriptor of a program; it stays the object's.
    private static func program(_ name: String, of object: OpaquePointer) -> Int32 {
        bpf_program__fd(bpf_object__find_program_by_name(object, name))
    }

    deinit {
        // A link whose last descriptor is closed is detached some time later, by a worker.
        connect4.detach()
        connect6.detach()
    }
}
