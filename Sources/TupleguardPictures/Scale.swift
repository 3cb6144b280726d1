// SPDX-License-Identifier: Apache-2.0
// From values to places on a picture, and where the ticks go.

import Glibc

/// A range of values on a range of places.
package struct Scale: Sendable {
    package enum Kind: Sendable {
        case linear
        case logarithmic
    }

    package let kind: Kind
    /// The values at both ends; the first is below the second, and of a logarithmic one above 0.
    package let domain: ClosedRange<Double>
    /// Where these are, in pixels: up a picture the first is the larger.
    package let start: Double
    package let end: Double
    /// Values with a tick, ascending, the ends of the domain among them.
    package let ticks: [Double]

    /// From zero to a round number that is no less than `highest`.
    ///
    /// - Parameters:
    ///   - count: how many steps there may be.
    ///   - isWhole: whether there is nothing between whole numbers, as with what is counted.
    package static func linear(
        upTo highest: Double, from start: Double, to end: Double, count: Int,
        isWhole: Bool = false
    ) -> Scale {
        let highest = highest.isFinite && highest > 0 ? highest : 1
        // From 1 on every round step is a whole number.
        let step = max(roundStep(highest / Double(max(1, count))), isWhole ? 1 : 0)
        let steps = Int((highest / step - 1e-9).rounded(.up))
        let ticks = (0...max(1, steps)).map { Double($0) * step }
        return Scale(
            kind: .linear, domain: 0...ticks.last!, start: start, end: end, ticks: ticks)
    }

    /// Whole powers of ten around the values: those that are no number above 0 don't count.
    ///
    /// - Parameter count: how many steps there may be.
    package static func logarithmic(
        _ values: some Sequence<Double>, from start: Double, to end: Double, count: Int
    ) -> Scale {
        let values = values.filter { $0.isFinite && $0 > 0 }
        // A value a hair below a power of ten is that power.
        let low = Int((log10(values.min() ?? 1) + 1e-9).rounded(.down))
        let high = max(low + 1, Int((log10(values.max() ?? 1) - 1e-9).rounded(.up)))
        let stride = max(1, (high - low + max(1, count) - 1) / max(1, count))
        let top = low + (high - low + stride - 1) / stride * stride
        let ticks = Swift.stride(from: low, through: top, by: stride).map { powerOfTen($0) }
        return Scale(
            kind: .logarithmic, domain: ticks.first!...ticks.last!, start: start, end: end,
            ticks: ticks)
    }

    /// Where a value is; what is beyond an end is at that end.
    package func position(_ value: Double) -> Double {
        let clamped = min(max(value, domain.lowerBound), domain.upperBound)
        let share =
            switch kind {
            case .linear:
                (clamped - domain.lowerBound) / (domain.upperBound - domain.lowerBound)
            case .logarithmic:
                log10(clamped / domain.lowerBound) / log10(domain.upperBound / domain.lowerBound)
            }
        return start + share * (end - start)
    }
}

/// The least of 1, 2 and 5 times a power of ten that is no less than `step`.
private func roundStep(_ step: Double) -> Double {
    let exponent = Int(log10(step).rounded(.down))
    for factor in [1.0, 2, 5] where factor * powerOfTen(exponent) >= step * (1 - 1e-9) {
        return factor * powerOfTen(exponent)
    }
    return powerOfTen(exponent + 1)
}

/// Exact where a double can be: pow(10, -3) is not 0.001 everywhere.
private func powerOfTen(_ exponent: Int) -> Double {
    let power = (0..<exponent.magnitude).reduce(1.0) { product, _ in product * 10 }
    return exponent < 0 ? 1 / power : power
}
