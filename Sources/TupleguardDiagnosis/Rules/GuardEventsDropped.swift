// SPDX-License-Identifier: Apache-2.0
// Events of the guard that nobody read in time.

import TupleguardLinux

extension Evidence {
    func guardEventsFinding(_ facts: GuardFacts) -> [Finding] {
        guard facts.eventsDropped > 0 else { return [] }
        return [
            Finding(
                .info, .guardEventsDropped,
                "\(amount(facts.eventsDropped, "event")) of the guard went unread; every counter is still exact",
                numbers: ["events_dropped": facts.eventsDropped],
                remedies: [
                    .init("Run the agent, or see what floods it.", "tupleguard conflicts")
                ])
        ]
    }
}
