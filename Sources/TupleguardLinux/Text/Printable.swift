// SPDX-License-Identifier: Apache-2.0
// Names that others chose, made fit to be shown.

/// What a terminal may be shown: control characters, also those of C1, as "?".
///
/// Processes name themselves, and whoever has a cgroup delegated names those below it.
package func printable(_ text: String) -> String {
    String(
        String.UnicodeScalarView(
            text.unicodeScalars.map { scalar in
                scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? "?" : scalar
            }))
}
