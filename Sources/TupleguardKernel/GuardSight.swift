// SPDX-License-Identifier: Apache-2.0
// A look at the guard by somebody who need not be root, where there need not be one.

/// What could be seen of the guard.
package enum GuardSight<Facts: Sendable>: Sendable {
    case attached(Facts)
    case none
    /// With the reason.
    case unseen(String)

    /// - Parameter look: what is to be known, and `GuardError.noGuard` where there is none.
    package init(_ look: () throws -> Facts) {
        do {
            try Platform.requireCapabilities()
            self = .attached(try look())
        } catch GuardError.noGuard {
            self = .none
        } catch {
            self = .unseen("\(error)")
        }
    }
}
