// SPDX-License-Identifier: Apache-2.0
// Names that others chose, of files, cgroups and programs: shown, quoted, put in a page, sent as
// JSON, read back.

import TupleguardLinux
import TupleguardPictures
import TupleguardRecords

@testable import TupleguardHostSurvey

/// A name of any bytes does nothing to a terminal, a shell or a page, and is read back as it was.
@Sendable func acceptsName(_ input: UnsafeRawBufferPointer) throws -> Bool {
    let name = fileName(input)
    if !input.contains(UInt8(ascii: "\\")) {
        try require(fileNameBytes(name).elementsEqual(input), "\(name) is the name of another file")
    }
    let shown = printable(name)
    try require(!shown.unicodeScalars.contains(where: \.isUnfitToBeShown), "unfit to be shown")
    try require(unquoted(shellWord(name)) == shown, "a shell reads another word than \(shown)")
    let markup = Markup(name).description.unicodeScalars
    try require(
        !markup.contains { "<>\"'".unicodeScalars.contains($0) || $0.isUnfitToBeShown },
        "a name that is markup")
    let json = encodeJSON([name])
    try require(!json.unicodeScalars.contains(where: \.isUnfitToBeShown), "JSON unfit to be shown")
    try require(decodeJSON(json) == [name], "\(json) is read as another name")
    try require(
        commandName(name).utf8.allSatisfy { (0x20..<0x7f).contains($0) }, "a command's name")
    _ = SystemdUnit.name(ofCgroup: name)
    try acceptsCgroup(name)
    _ = socketInode(input)
    _ = KernelVersion(release: name)
    try acceptsTimestamp(name)
    return shown == name
}

private func acceptsCgroup(_ path: String) throws {
    let shown = placeName(ofCgroup: path)
    try require(
        !shown.unicodeScalars.contains(where: \.isUnfitToBeShown), "a place unfit to be shown")
    guard let pod = Pod(ofCgroup: path) else { return }
    try require(pod.uid.utf8.allSatisfy { $0 < 0x80 }, "a pod's number that is none")
    try require(pod.containerId.map { $0.utf8.count == 64 } ?? true, "a container's that is none")
}

private func acceptsTimestamp(_ text: String) throws {
    guard let time = Timestamp(text) else { return }
    try require(time.description == text, "\(text) is read as \(time)")
}

/// The word that a shell makes of text in single quotes, beside them, and behind backslashes.
private func unquoted(_ word: String) -> String {
    var text = ""
    var isQuoted = false
    var scalars = word.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
        switch scalar {
        case "'": isQuoted.toggle()
        case "\\" where !isQuoted:
            if let next = scalars.next() { text.unicodeScalars.append(next) }
        default: text.unicodeScalars.append(scalar)
        }
    }
    return text
}
