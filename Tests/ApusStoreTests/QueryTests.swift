import ApusStore
import ApusTestKit
import ApusWire
import Testing

@Suite("Task queries")
struct QueryTests {
    @Test(
        "A regular expression is found as Python finds it",
        arguments: [
            ("", "", true), ("", "abc", true), ("b", "abc", true), ("^b", "abc", false), ("c$", "abc", true),
            ("c$", "abc\n", true),
            ("c\\Z", "abc\n", false), ("a.c", "abc", true), ("a.c", "a\nc", false), ("(?s)a.c", "a\nc", true), ("a*b", "b", true),
            ("^a+b$", "aaab", true), ("^a+b$", "b", false), ("^a?b$", "aab", false), ("^a{2}$", "aa", true),
            ("^a{2}$", "aaa", false),
            ("^a{2,}$", "aaaa", true), ("^a{,2}$", "aaa", false), ("^a{1,3}$", "aaa", true), ("^(ab|cd)+$", "abcdab", true),
            ("^(ab|cd)+$", "abc", false), ("^(?:x|)y$", "y", true), ("[a-c]", "b", true), ("[^a-c]", "abc", false),
            ("[]a]", "]", true),
            ("[a-]", "-", true), ("[\\d_]+$", "12_3", true), ("[\\D]", "123", false), ("\\d{3}-\\d{4}", "call 555-1234", true),
            ("\\bcat\\b", "a cat!", true), ("\\bcat\\b", "concat", false), ("\\Bcat", "concat", true),
            ("\\w+\\s\\w+", "é ü", true),
            ("(?i)HeLLo", "hello", true), ("(?i)[A-Z]+$", "ß", false), ("(?m)^two$", "one\ntwo\nthree", true),
            ("^two$", "one\ntwo", false),
            ("a{x}", "a{x}", true), ("\\.", "a", false), ("\\x41", "A", true), ("\\u00e9", "é", true), ("(?P<n>a)b", "ab", true),
            ("^(a*)*$", "aaaa", true), ("^(a|b|ab)*c", "ababc", true), ("(a|b)*?c", "abc", true), ("", "é", true),
            ("^.$", "é", true),
        ] as [(String, String, Bool)])
    func expressions(pattern: String, text: String, expected: Bool) throws {
        #expect(try TextPattern(expression: pattern).matches(text) == expected)
    }

    @Test(
        "A malformed expression is refused",
        arguments: [
            "(", ")", "[", "[]", "*a", "a**", "a|*", "\\", "(?=a)", "(?<!a)", "\\1", "\\q", "[b-a]", "a{3,2}", "a{9999}", "\\x4",
            "((a{1000}){1000})", String(repeating: "(", count: 500),
        ])
    func malformed(pattern: String) {
        #expect(throws: TextPattern.Problem.self) { try TextPattern(expression: pattern) }
    }

    @Test("A pattern made to take for ever does not")
    func noCatastrophe() throws {
        let pattern = try TextPattern(expression: "^(a+)+$")
        #expect(!pattern.matches(String(repeating: "a", count: 20_000) + "!"))
        #expect(try !TextPattern(glob: String(repeating: "*a", count: 20) + "b").matches(String(repeating: "a", count: 5_000)))
    }

    @Test(
        "A shell pattern fits a whole text",
        arguments: [
            ("*", "", true), ("", "", true), ("", "a", false), ("a*", "abc", true), ("a*", "ba", false), ("*b*", "abc", true),
            ("a?c", "abc", true), ("a?c", "ac", false), ("[ab]", "b", true), ("[!ab]", "b", false), ("[a-c]x", "bx", true),
            ("[", "[", true), ("[]", "[]", true), ("[]]", "]", true), ("[!]]", "x", true), ("a.b", "axb", false),
            ("*.txt", "a\nb.txt", true),
            ("[c-a]", "b", false),
        ] as [(String, String, Bool)])
    func globs(pattern: String, text: String, expected: Bool) throws {
        #expect(try TextPattern(glob: pattern).matches(text) == expected)
    }

    @Test("No query, however absurd, does more than be refused", arguments: UInt64(0)..<200)
    func fuzz(seed: UInt64) throws {
        var random = Random(seed: seed)
        let words = [
            "$and", "$or", "$not", "$eq", "$ne", "$lt", "$gt", "$in", "$nin", "$all", "$mod", "$exists", "$regex", "$glob", "$x",
            "", "$",
            "msg_id", "submitted", "header.msg_id", ".", "a..b", "buffers", "buffers.0", "2026-01-01T00:00:00Z",
            "9999-99-99T99:99:99Z",
            "(a|b)*[^c]", "[", "{", "\\", "*?[a-z]", "é",
        ]
        func value(depth: Int) -> JSONValue {
            switch Int.random(in: 0..<(depth > 4 ? 6 : 9), using: &random) {
            case 0: return .null
            case 1: return .bool(Bool.random(using: &random))
            case 2: return .int(Int.random(in: -2...2, using: &random))
            case 3:
                return .double(
                    [0, -0.5, 1e300, .greatestFiniteMagnitude, .leastNonzeroMagnitude].randomElement(using: &random) ?? 0)
            case 4: return .string(words.randomElement(using: &random) ?? "")
            case 5: return .int([Int.max, Int.min, 0].randomElement(using: &random) ?? 0)
            case 6: return .array((0..<Int.random(in: 0..<4, using: &random)).map { _ in value(depth: depth + 1) })
            default:
                var members: JSONObject = [:]
                for _ in 0..<Int.random(in: 0..<4, using: &random) {
                    members[words.randomElement(using: &random) ?? ""] = value(depth: depth + 1)
                }
                return .object(members)
            }
        }
        var tasks = MemoryTasks()
        for change: TaskChange in [
            .example("a", metadata: ["label": "x"], buffers: ["b"]), .exampleReply("a", engine: "e"), .example("b"),
        ] { tasks.apply(change) }
        for _ in 0..<100 {
            let json = value(depth: 0)
            guard let query = try? TaskQuery(json) else { continue }
            let found = MemoryTasks.records(matching: query, among: tasks.candidates(for: query))
            let opposite = try TaskQuery(["$not": json])
            #expect(
                found.count + MemoryTasks.records(matching: opposite, among: tasks.candidates(for: opposite)).count == 2,
                "\(json)")
        }
    }
}
