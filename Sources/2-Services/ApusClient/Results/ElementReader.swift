import Pickle

/// Reads a sequence's elements one by one, encoded.
struct ElementReader {
    /// The next element; nil at the end.
    let next: () throws -> PickleValue?

    init<Source: Sequence>(_ elements: Source) where Source.Element: Encodable {
        var iterator = elements.makeIterator()
        var index = -1
        let encoder = PickleEncoder()
        self.next = {
            index += 1
            guard let element = iterator.next() else { return nil }
            return try encode(element: element, at: index, with: encoder)
        }
    }

    static func readers<each Source: Sequence>(_ elements: repeat each Source) -> [ElementReader]
    where repeat (each Source).Element: Encodable {
        var readers: [ElementReader] = []
        for each in repeat each elements { readers.append(ElementReader(each)) }
        return readers
    }
}

extension [ElementReader] {
    /// Reads up to this many elements of each sequence, up to the end of the shortest; nil when none is left.
    func nextChunk(_ size: Int) throws -> [PickleValue]? {
        var columns = [[PickleValue]](repeating: [], count: self.count)
        reading: for _ in 0..<size {
            var row: [PickleValue] = []
            for reader in self {
                guard let value = try reader.next() else { break reading }
                row.append(value)
            }
            for (column, value) in row.enumerated() { columns[column].append(value) }
        }
        return columns.first?.isEmpty ?? true ? nil : columns.map { .list($0) }
    }

    /// Reads all elements of each sequence, up to the end of the shortest.
    func columns() throws -> [[PickleValue]] {
        try (self.nextChunk(.max) ?? []).map { try $0.elements() }
    }
}

/// Encodes one element; the error for an element that cannot be encoded names the element's index.
func encode<Element: Encodable>(element: Element, at index: Int, with encoder: PickleEncoder) throws -> PickleValue {
    do { return try encoder.encode(element) } catch {
        throw ApusError(.badArgument, "element \(index), a \(Element.self), cannot be sent", cause: error)
    }
}
