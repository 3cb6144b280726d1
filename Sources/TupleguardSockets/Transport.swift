// SPDX-License-Identifier: Apache-2.0
// The two protocols that connections are made with.

extension Connectx {
    /// The protocol of a connection; the raw value is its number in IP packets.
    public enum Transport: UInt8, Hashable, Sendable, CaseIterable {
        /// IPPROTO_TCP
        case tcp = 6
        /// IPPROTO_UDP
        case udp = 17
    }
}

package typealias Transport = Connectx.Transport
