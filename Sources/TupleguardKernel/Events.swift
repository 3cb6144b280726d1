// SPDX-License-Identifier: Apache-2.0
// The ring buffer of conflicts.

import CTupleguardLibbpf
import Glibc
package import TupleguardRecords
import TupleguardSockets

/// Reads events as they come. One reader at a time gets them all; two would share them.
package struct EventReader: ~Copyable {
    private let buffer: OpaquePointer
    private let handler: Unmanaged<Handler>
    /// The map's id: another one means that the state was made anew.
    package let mapID: UInt32

    private final class Handler {
        /// Events of one call of `poll`: in a flood they come as fast as they are handled, and
        /// whoever polls has other things to do as well.
        static let limit = 4096

        let body: (GuardEvent?) -> Void
        var left = limit
        init(_ body: @escaping (GuardEvent?) -> Void) { self.body = body }
    }

    /// - Parameter body: called for each event, with nil for a record that makes no sense.
    package init(_ state: GuardState, _ body: @escaping (GuardEvent?) -> Void) throws(GuardError) {
        let map = try state.open(.events)
        let handler = Unmanaged.passRetained(Handler(body))
        let buffer = ring_buffer__new(
            map.descriptor.raw,
            { context, data, size in
                let bytes = UnsafeRawBufferPointer(start: data, count: size)
                let handler = Unmanaged<Handler>.fromOpaque(context!).takeUnretainedValue()
                handler.body(GuardEvent(bytes: bytes))
                handler.left -= 1
                // A negative number ends the call; this event is taken out all the same
                // (ringbuf_process_ring).
                return handler.left > 0 ? 0 : -EINTR
            }, handler.toOpaque(), nil)
        guard let buffer else {
            handler.release()
            throw .failed(
                what: "open the ring buffer", errno: .last, detail: LibbpfLog.takeDetail())
        }
        self.buffer = buffer
        self.handler = handler
        mapID = map.id
    }

    deinit {
        ring_buffer__free(buffer)
        handler.release()
    }

    /// Readable when there are events (epoll(7)); stays the reader's.
    package var descriptor: Int32 { ring_buffer__epoll_fd(buffer) }

    /// Handles what there is, up to a number, waiting so many milliseconds for the first; returns
    /// how many.
    @discardableResult
    package func poll(milliseconds: Int32) -> Int {
        let handler = handler.takeUnretainedValue()
        handler.left = Handler.limit
        _ = ring_buffer__poll(buffer, milliseconds)
        return Handler.limit - handler.left
    }
}

extension GuardState {
    /// The id of the ring buffer that is pinned now; nil when there is none.
    package var eventsMapID: UInt32? {
        guard exists, let map = try? BPFMap(pinned: map(.events)) else { return nil }
        return map.id
    }
}
