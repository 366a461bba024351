import ApusClient
import Testing

@Suite("Text for pipes")
struct TerminalTests {
    @Test(
        "Escape sequences are left out, and nothing else",
        arguments: [
            ("plain", "plain"), ("\u{1B}[31mred\u{1B}[39;49;00m end", "red end"), ("a\u{1B}[1;38;5;12mb\u{1B}[0m", "ab"),
            ("\u{1B}]8;;http://x\u{07}link\u{1B}]8;;\u{1B}\\ é", "link é"), ("cut \u{1B}[3", "cut "), ("cut \u{1B}", "cut "),
            ("[0;31m is no sequence", "[0;31m is no sequence"), ("\u{1B}[31é", "é"),
        ])
    func plain(text: String, expected: String) { #expect(Terminal.plain(text) == expected) }
}
