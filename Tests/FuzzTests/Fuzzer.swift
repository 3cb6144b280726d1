// SPDX-License-Identifier: Apache-2.0
// Inputs that nobody would think of, the same ones in every run.

/// A seeded generator (SplitMix64): a failure happens again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// Makes inputs out of noise and out of valid ones that were damaged.
struct Fuzzer {
    /// How many inputs each target is given.
    static let inputs = 200_000

    private var generator: SeededGenerator
    private let valid: [[UInt8]]

    /// What is often where a length, a count or a type is.
    private static let interesting: [[UInt8]] = [
        [0], [1], [0xff], [0x7f], [0x80], [3, 0], [4, 0], [0xff, 0xff], [15, 0, 0, 0],
        [16, 0, 0, 0], [17, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f],
        [0, 0, 0, 0x80], [0xfd, 0xff, 0xff, 0xff],
    ]

    init(seed: UInt64, valid: [[UInt8]]) {
        generator = SeededGenerator(seed: seed)
        self.valid = valid
    }

    /// Noise, a valid input, or one with a few bytes changed, cut off or added; often several.
    mutating func next() -> [UInt8] {
        if Int.random(in: 0..<8, using: &generator) == 0 { return noise(upTo: 300) }
        var input = valid.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 0...4, using: &generator) { damage(&input) }
        return input
    }

    private mutating func noise(upTo limit: Int) -> [UInt8] {
        (0..<Int.random(in: 0...limit, using: &generator)).map { _ in
            UInt8.random(in: 0...255, using: &generator)
        }
    }

    private mutating func damage(_ input: inout [UInt8]) {
        let place = Int.random(in: 0...input.count, using: &generator)
        switch Int.random(in: 0..<6, using: &generator) {
        case 0: input.removeLast(input.count - place)
        case 1: input.insert(contentsOf: noise(upTo: 8), at: place)
        case 2: input += valid.randomElement(using: &generator) ?? []
        case 3:
            guard place < input.count else { return }
            input[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 4:
            guard place < input.count else { return }
            input[place] = UInt8.random(in: 0...255, using: &generator)
        default:
            let bytes = Self.interesting.randomElement(using: &generator) ?? []
            guard place + bytes.count <= input.count else { return }
            input.replaceSubrange(place..<place + bytes.count, with: bytes)
        }
    }
}

/// Calls `body` with the input in memory of exactly its size: AddressSanitizer sees what is read
/// before or behind it.
func withExactMemory(_ input: [UInt8], _ body: (UnsafeRawBufferPointer) -> Void) {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: input.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: input)
    body(UnsafeRawBufferPointer(memory))
}
