// SPDX-License-Identifier: Apache-2.0
// What programs print as JSON, for tests that look at single fields.

import Foundation

package typealias JSONObject = [String: Any]

package struct NotJSON: Error, CustomStringConvertible {
    package let description: String
}

/// The object that a text is.
package func jsonObject(_ text: some StringProtocol) throws -> JSONObject {
    let value = try? JSONSerialization.jsonObject(with: Data(text.utf8))
    guard let object = value as? JSONObject else {
        throw NotJSON(description: "this is no JSON object: '\(text)'")
    }
    return object
}

extension Sandbox.Outcome {
    /// The object that was printed.
    ///
    /// - Throws: `NotJSON`, with what was printed to standard error.
    package var json: JSONObject {
        get throws {
            guard let object = try? jsonObject(output) else {
                throw NotJSON(description: "no JSON object, but '\(output)' and '\(errors)'")
            }
            return object
        }
    }
}
