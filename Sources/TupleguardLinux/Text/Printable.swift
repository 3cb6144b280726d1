// SPDX-License-Identifier: Apache-2.0
// Names that others chose, made fit to be shown.

extension Unicode.Scalar {
    /// Whether it does something to the text around it instead of being shown: control characters
    /// (also those of C1), what turns the direction of writing round, what ends a line or a
    /// paragraph, and what nobody sees.
    package var isUnfitToBeShown: Bool {
        if value < 0x7f { return value < 0x20 }
        return switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}

/// What a terminal or a log may be shown: characters that are not, as "?".
///
/// Processes name themselves, and whoever has a cgroup delegated names those below it.
package func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: \.isUnfitToBeShown) else { return text }
    return String(
        String.UnicodeScalarView(
            text.unicodeScalars.map { $0.isUnfitToBeShown ? "?" : $0 }))
}
