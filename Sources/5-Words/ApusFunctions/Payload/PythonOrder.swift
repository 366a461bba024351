import NIOCore
import Pickle

/// The order that Python's `sorted` gives.
enum PythonOrder {
    /// The places of the values in ascending order; nil if Python cannot compare them.
    static func sorted(_ values: [PickleValue]) -> [Int]? {
        try? values.indices.sorted { try self.isLess(values[$0], values[$1]) }
    }

    private struct NotComparable: Error {}

    private static func isLess(_ first: PickleValue, _ second: PickleValue) throws -> Bool {
        switch (first, second) {
        // Python compares code points, which is the order of UTF-8 bytes, and not that of Swift's strings.
        case (.string(let first), .string(let second)): return first.utf8.lexicographicallyPrecedes(second.utf8)
        case (.bytes(let first), .bytes(let second)):
            return first.readableBytesView.lexicographicallyPrecedes(second.readableBytesView)
        case (.int(let first), .int(let second)): return first < second
        case (.tuple(let first), .tuple(let second)):
            for (first, second) in zip(first, second) where first != second { return try self.isLess(first, second) }
            return first.count < second.count
        default:
            guard let first = self.number(first), let second = self.number(second) else { throw NotComparable() }
            return first < second
        }
    }

    private static func number(_ value: PickleValue) -> Double? {
        switch value {
        case .bool(let value): value ? 1 : 0
        case .int(let value): Double(value)
        case .float(let value): value
        case .bigInteger(let value): value.doubleValue
        default: nil
        }
    }
}
