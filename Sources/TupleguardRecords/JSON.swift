// SPDX-License-Identifier: Apache-2.0
// JSON as this program writes it: one line, fields in snake case and alphabetical order.

import FoundationEssentials
import TupleguardLinux
import TupleguardSockets

/// Encodes what a program is to read.
package func encodeJSON(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    // Numbers, strings and arrays of them: nothing that an encoder can refuse.
    return (try? encoder.encode(value)).map { escaped(String(decoding: $0, as: UTF8.self)) } ?? "{}"
}

/// The same JSON, with what a terminal had better not be shown as \uXXXX: it can be in strings
/// only, which stay what they are. JSON itself has just the control characters of ASCII so.
private func escaped(_ json: String) -> String {
    guard json.unicodeScalars.contains(where: \.isUnfitToBeShown) else { return json }
    var text = ""
    for scalar in json.unicodeScalars {
        guard scalar.isUnfitToBeShown else {
            text.unicodeScalars.append(scalar)
            continue
        }
        for unit in UTF16.encode(scalar)! {
            let digits = String(unit, radix: 16)
            text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
    }
    return text
}

/// Decodes what `encodeJSON` made; nil for anything else.
package func decodeJSON<Value: Decodable>(_ text: String) -> Value? {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try? decoder.decode(Value.self, from: Data(text.utf8))
}

/// In JSON two fields, `local` and `remote`, among those of whatever is about the tuple.
extension FourTuple {
    private enum CodingKeys: CodingKey {
        case local, remote
    }

    func encodeEnds(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(local.description, forKey: .local)
        try container.encode(remote.description, forKey: .remote)
    }

    init(endsFrom decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func endpoint(_ key: CodingKeys) throws -> Endpoint {
            let text = try container.decode(String.self, forKey: key)
            guard let endpoint = Endpoint(text) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: container, debugDescription: "not an address and a port")
            }
            return endpoint
        }
        self.init(local: try endpoint(.local), remote: try endpoint(.remote))
    }
}
