// SPDX-License-Identifier: Apache-2.0
// What others named stays text, wherever it stands.

import Testing

@testable import TupleguardPictures

@Suite struct MarkupTests {
    /// Names that a process can give itself, or a cgroup can have.
    static let names = [
        "</text><script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onload='x",
        "a & b < c", "]]>", "<!--", "]]><svg onload=alert(1)>", "line\nbreak\u{0}\u{1b}[31m",
        "\u{202E}gnp.exe", "\u{FFFE}",
    ]

    private func isTame(_ markup: String, among elements: Set<String>) -> Bool {
        markup.split(separator: "<").dropFirst().allSatisfy { piece in
            let name = piece.drop { $0 == "/" }.prefix { $0.isLetter || $0.isNumber }
            return elements.contains(String(name))
        }
    }

    @Test(arguments: names)
    func textIsEscaped(_ name: String) {
        let markup = Markup.element("p", ["title": name], Markup(name)).description
        #expect(isTame(markup, among: ["p"]), "\(markup)")
        // One attribute and no more.
        #expect(markup.filter { $0 == "\"" }.count == 2)
        #expect(!markup.contains("'"))
        for scalar in markup.unicodeScalars {
            #expect(scalar.value >= 0x20 && scalar.value != 0x202E && scalar.value != 0xFFFE)
        }
    }

    @Test func ampersandsAreEscapedOnce() {
        #expect(Markup("a & b < \"c\" '").description == "a &amp; b &lt; &quot;c&quot; &#39;")
        #expect(Markup("&amp;").description == "&amp;amp;")
    }

    private func page(_ name: String) -> Page {
        let table = DataTable([(name, false)], [[name]])
        var page = Page(name, [name])
        page.figures = [
            Figure(
                "rows", title: name, explanation: name, source: name,
                RowChart(
                    [.init(name, [(.bar([(0, 1), (1, 2)]), name)])], series: [name],
                    axis: Axis(name), limits: [Limit(1, name)]), table),
            Figure(
                "lines", title: name, explanation: name, source: name,
                LineChart([.init(name, series: 0, [(1, 1)])], across: Axis(name), up: Axis(name)),
                table),
        ]
        page.notes = [name]
        return page
    }

    @Test(arguments: names)
    func nothingOnAPageIsMarkupOfOthers(_ name: String) {
        let html = page(name).html
        let elements: Set = [
            "", "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "figure",
            "figcaption", "svg", "rect", "line", "text", "defs", "pattern", "path", "circle",
            "polygon", "polyline", "details", "summary", "div", "table", "thead", "tbody", "tr",
            "th", "td",
        ]
        // "<!doctype" is the one without a name.
        #expect(isTame(html, among: elements))
        #expect(html.components(of: "<title>") == 1 + pictureTitles(html))
    }

    private func pictureTitles(_ html: String) -> Int { html.components(of: "</title></text>") }

    @Test func aPageLoadsNothing() {
        let html = page("x").html
        for word in ["<script", "src=", "href=", "@import", "<link", "<img"] {
            #expect(!html.contains(word), "\(word)")
        }
        // The only address is the name of SVG's namespace.
        #expect(html.components(of: "://") == html.components(of: "http://www.w3.org/2000/svg"))
        #expect(html.contains("default-src 'none'") || html.contains("default-src &#39;none&#39;"))
    }

    /// Two drawings on a page must not use each other's patterns.
    @Test func idsAreUnique() {
        let html = page("x").html
        let ids = html.split(separator: " id=\"").dropFirst().map { $0.prefix { $0 != "\"" } }
        #expect(Set(ids).count == ids.count)
        #expect(ids.count > 10)
        for use in html.split(separator: "url(#").dropFirst() {
            #expect(ids.contains { $0 == use.prefix { $0 != ")" } })
        }
    }

    @Test func aPictureAloneHasItsOwnLooks() {
        let svg = page("x").figures[0].svg
        #expect(svg.hasPrefix("<svg xmlns=\"http://www.w3.org/2000/svg\""))
        #expect(svg.contains("<style>"))
        #expect(svg.contains("prefers-color-scheme:dark"))
        #expect(!svg.contains("body{"))
    }
}

extension String {
    fileprivate func components(of part: String) -> Int {
        split(separator: part, omittingEmptySubsequences: false).count - 1
    }
}
