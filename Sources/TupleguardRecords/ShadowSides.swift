// SPDX-License-Identifier: Apache-2.0
// Who of the sockets that share a tuple receives, and who waits in vain.

/// The sockets of one tuple, sorted by what becomes of them.
package struct ShadowSides: Hashable, Sendable, CustomStringConvertible {
    /// The one that receives; nil where it is not always the same one.
    package let receiver: SharedSocket?
    /// Those of which now one, now another may receive; empty where there is a receiver.
    package let contenders: [SharedSocket]
    /// What it depends on which of them does.
    package let dependsOn: Doubt?
    /// Those that never do.
    package let overshadowed: [SharedSocket]

    /// One receives, the others do not.
    package init(receiver: SharedSocket, overshadowed: [SharedSocket]) {
        self.receiver = receiver
        contenders = []
        dependsOn = nil
        self.overshadowed = overshadowed
    }

    /// It is not always the same one that receives.
    package init(contenders: [SharedSocket], dependsOn: Doubt, overshadowed: [SharedSocket]) {
        receiver = nil
        self.contenders = contenders
        self.dependsOn = dependsOn
        self.overshadowed = overshadowed
    }

    package var all: [SharedSocket] {
        (receiver.map { [$0] } ?? []) + contenders + overshadowed
    }

    /// Those that receive, or may.
    package var receiving: [SharedSocket] { receiver.map { [$0] } ?? contenders }

    /// "python3 (pid 7, uid 0) receives, overshadowed: python3 (pid 5, uid 0)"
    package var description: String {
        let losers = overshadowed.map(\.description).joined(separator: ", ")
        let inVain = losers.isEmpty ? "" : ", overshadowed: \(losers)"
        let winners = receiving.map(\.description).joined(separator: " or ")
        let doubt = dependsOn.map { ", which depends on \($0.explanation)" } ?? ""
        return "\(winners) receives\(doubt)\(inVain)"
    }
}

extension ShadowSides: Codable {
    private enum CodingKeys: CodingKey {
        case receiver, contenders, dependsOn, overshadowed
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(receiver, forKey: .receiver)
        if let dependsOn {
            try container.encode(contenders, forKey: .contenders)
            try container.encode(dependsOn, forKey: .dependsOn)
        }
        try container.encode(overshadowed, forKey: .overshadowed)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let overshadowed = try container.decode([SharedSocket].self, forKey: .overshadowed)
        guard let doubt = try container.decodeIfPresent(Doubt.self, forKey: .dependsOn) else {
            self.init(
                receiver: try container.decode(SharedSocket.self, forKey: .receiver),
                overshadowed: overshadowed)
            return
        }
        self.init(
            contenders: try container.decode([SharedSocket].self, forKey: .contenders),
            dependsOn: doubt, overshadowed: overshadowed)
    }
}
