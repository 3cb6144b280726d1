// SPDX-License-Identifier: Apache-2.0
// Names that others chose, made fit to be part of a command.

/// One word for a shell, in quotes where it needs them, so that a command with a name in it may be
/// copied from the screen. Whoever has a cgroup delegated names those below it.
package func shellWord(_ name: String) -> String {
    let plain = name.utf8.allSatisfy { byte in
        let isLetter = (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        return isLetter || isDigit || "/._-:@+,=".utf8.contains(byte)
    }
    if plain && !name.isEmpty { return name }
    // By scalars: a quote with an accent behind it is another Character, but a quote to the shell.
    var word = "'"
    for scalar in printable(name).unicodeScalars {
        if scalar == "'" {
            word += "'\\''"
        } else {
            word.unicodeScalars.append(scalar)
        }
    }
    return word + "'"
}
