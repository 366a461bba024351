import Foundation
import NIOCore
import Pickle
import Testing

private struct Point: Codable, Hashable {
    var x: Double
    var y: Double
    var name: String?
}

private enum Shape: Codable, Hashable {
    case empty
    case circle(center: Point, radius: Double)
}

private enum Color: String, Codable { case red, green }

private class Animal: Codable {
    var name: String
    init(name: String) { self.name = name }
}

private final class Dog: Animal {
    var tricks: [String]

    init(name: String, tricks: [String]) {
        self.tricks = tricks
        super.init(name: name)
    }

    private enum CodingKeys: CodingKey { case tricks }

    required init(from decoder: any Decoder) throws {
        self.tricks = try decoder.container(keyedBy: CodingKeys.self).decode([String].self, forKey: .tricks)
        try super.init(from: decoder.container(keyedBy: CodingKeys.self).superDecoder())
    }

    override func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(self.tricks, forKey: .tricks)
        try super.encode(to: container.superEncoder())
    }
}

@Suite("Swift types and Python values")
struct PickleCodableTests {
    /// Encodes, checks the Python value, and decodes again.
    private func check<Value: Codable & Equatable>(
        _ value: Value, _ expected: PickleValue, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let encoded = try PickleEncoder().encode(value)
        #expect(encoded == expected, sourceLocation: sourceLocation)
        #expect(try PickleDecoder().decode(Value.self, from: encoded) == value, sourceLocation: sourceLocation)
    }

    @Test("Numbers, truth values and texts are Python's own, integers of any size")
    func scalars() throws {
        try check(5, 5)
        try check(2.5, 2.5)
        try check(Float(2.5), 2.5)
        try check(true, true)
        try check("abc", "abc")
        try check(Int8(-5), -5)
        try check(UInt64.max, .integer(UInt64.max))
        try check(Int64.min, .int(.min))
        try check(Int128.max, .integer(Int128.max))
        try check(Int?.none, PickleValue.none)
        try check(Int?.some(3), 3)
    }

    @Test("A structure is a dictionary of its members, and a member that is nil is left out")
    func structures() throws {
        try check(Point(x: 1, y: 2, name: "a"), ["x": 1.0, "y": 2.0, "name": "a"])
        try check(Point(x: 1, y: 2), ["x": 1.0, "y": 2.0])
        try check([Point(x: 1, y: 2)], [["x": 1.0, "y": 2.0]])
        #expect(try PickleDecoder().decode(Point.self, from: ["y": 2, "name": .none, "x": 1]) == Point(x: 1, y: 2))
    }

    @Test("Enumerations and class families pass as Swift encodes them everywhere")
    func enumerations() throws {
        try check(Color.red, "red")
        try check(Shape.empty, ["empty": [:]])
        try check(
            Shape.circle(center: Point(x: 0, y: 0), radius: 3), ["circle": ["center": ["x": 0.0, "y": 0.0], "radius": 3.0]])
        let dog = try PickleEncoder().encode(Dog(name: "Rex", tricks: ["sit"]))
        #expect(dog == ["tricks": ["sit"], "super": ["name": "Rex"]])
        #expect(try PickleDecoder().decode(Dog.self, from: dog).name == "Rex")
    }

    @Test("Collections are Python's: lists, sets, dictionaries with keys of any kind, bytes")
    func collections() throws {
        try check([1, 2, 3], [1, 2, 3])
        try check([1.5], [1.5])
        try check(["a", "b"], ["a", "b"])
        try check([[1], []], [[1], []])
        try check([Int?.some(1), nil], [1, .none])
        try check(Set([1, 2]), .set([1, 2]))
        try check(["a": 1], ["a": 1])
        try check([1: "one", 2: "two"], [1: "one", 2: "two"])
        try check([Color.red: 1], ["red": 1])
        try check([[1, 2]: "list"], .dictionary([(.list([1, 2]), "list")]))
        try check([UInt8]([1, 2]), .bytes([1, 2]))
        try check(Data([1, 2]), .bytes([1, 2]))
        try check(ByteBuffer(bytes: [1, 2]), .bytes([1, 2]))
    }

    @Test("Foundation's values are Python's: datetime in UTC, Decimal, UUID")
    func foundation() throws {
        let midnight = PickleDateTime(date: PickleDate(year: 2024, month: 2, day: 29), time: PickleTime(hour: 0, zone: .utc))
        try check(Date(timeIntervalSince1970: 1_709_164_800), .dateTime(midnight))
        let beforeEpoch = try PickleEncoder().encode(Date(timeIntervalSince1970: -0.25))
        #expect(beforeEpoch.description == "datetime.datetime(1969, 12, 31, 23, 59, 59, 750000, tzinfo=datetime.timezone.utc)")
        let number = try #require(Decimal(string: "1.50"))
        #expect(try PickleDecoder().decode(Decimal.self, from: try PickleEncoder().encode(number)) == number)
        let id = UUID()
        #expect(try PickleDecoder().decode(UUID.self, from: try PickleEncoder().encode(id)) == id)
        try check(try #require(URL(string: "https://example.org/a")), "https://example.org/a")
        #expect(throws: PickleError.self) { try PickleEncoder().encode(Date(timeIntervalSince1970: -1e12)) }
    }

    @Test("A Swift array is taken from any Python sequence, a double from any number")
    func leniency() throws {
        let range = PickleObject(constructor: .global(module: "builtins", name: "range"), arguments: [0, 10, 3])
        let sequences: [PickleValue] = [
            .tuple([0, 3, 6, 9]), .list([0, 3, 6, 9]), .object(range), .array(NDArray([0, 3, 6, 9])),
            .array(NDArray([Int16](arrayLiteral: 0, 3, 6, 9))), .set([0, 3, 6, 9]),
        ]
        for sequence in sequences { #expect(try PickleDecoder().decode([Int].self, from: sequence).sorted() == [0, 3, 6, 9]) }
        for sequence in sequences {
            #expect(try PickleDecoder().decode([Double].self, from: sequence).sorted() == [0, 3, 6, 9])
        }
        #expect(
            try PickleDecoder().decode([[Int]].self, from: .array(NDArray([1, 2, 3, 4], shape: [2, 2]))) == [[1, 2], [3, 4]])
        #expect(try PickleDecoder().decode(Double.self, from: .array(NDArray([2.5], shape: []))) == 2.5)
        #expect(try PickleDecoder().decode(NDArray.self, from: [1, 2]) == NDArray([1, 2]))
        #expect(try PickleDecoder().decode([UInt8].self, from: [1, 2]) == [1, 2])
        let plain = PickleObject(instanceOf: PickleGlobal(module: "app", name: "Point"), attributes: ["x": 1, "y": 2])
        #expect(try PickleDecoder().decode(Point.self, from: .object(plain)) == Point(x: 1, y: 2))
    }

    @Test("A value or an array passes through as it is")
    func passThrough() throws {
        let value: PickleValue = ["a": .tuple([1, .array(NDArray([1.0]))])]
        #expect(try PickleEncoder().encode(["k": value]) == ["k": value])
        #expect(try PickleDecoder().decode([String: PickleValue].self, from: ["k": value]) == ["k": value])
        try check(NDArray([1, 2]), .array(NDArray([1, 2])))
        let json = try JSONEncoder().encode(["list": [1, 2.5, "a", .none, true] as PickleValue])
        #expect(try JSONDecoder().decode([String: PickleValue].self, from: json)["list"] == [1, 2.5, "a", .none, true])
        let array = NDArray([1.5, 2.5])
        #expect(try JSONDecoder().decode(NDArray.self, from: JSONEncoder().encode(array)) == array)
    }

    @Test("An error says where, what was expected and what was found")
    func errors() {
        func message<Value: Decodable>(_ type: Value.Type, _ value: PickleValue, named name: String = "argument 2") -> String {
            do {
                return "no error: \(try PickleDecoder().decode(type, from: value, named: name))"
            } catch {
                return "\(error)"
            }
        }
        #expect(message(Double.self, "abc") == "argument 2: expected a number, found the text 'abc'")
        #expect(message(Double.self, "abc", named: "") == "expected a number, found the text 'abc'")
        #expect(message(Int.self, 2.5) == "argument 2: expected an integer, found 2.5")
        #expect(message(Int.self, true) == "argument 2: expected an integer, found True")
        #expect(message(Int8.self, 300) == "argument 2: 300 does not fit Int8, which holds -128 to 127")
        #expect(
            message([Point].self, [["x": 1, "y": 2], ["x": 1, "y": "z"]])
                == "argument 2[1].y: expected a number, found the text 'z'")
        #expect(message(Point.self, ["x": 1]) == "argument 2: there is no 'y'")
        #expect(message([String: [Int]].self, ["a": [1, .none]]) == "argument 2.a[1]: expected an integer, found None")
        #expect(message([Int].self, 5) == "argument 2: expected a sequence, found 5")
        #expect(message(String.self, .bytes([1])) == "argument 2: expected a text, found 1 bytes")
        #expect(message(Color.self, "blue").hasPrefix("argument 2: "))
        #expect(message(Data.self, "text") == "argument 2: expected bytes, found the text 'text'")
    }
}
