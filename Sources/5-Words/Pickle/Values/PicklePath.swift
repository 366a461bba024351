/// The place of an encoder or decoder in a value: the way from the root, innermost step first.
final class PicklePath {
    let key: any CodingKey
    let outer: PicklePath?

    init(_ key: any CodingKey, in outer: PicklePath?) {
        self.key = key
        self.outer = outer
    }

    var keys: [any CodingKey] { (self.outer?.keys ?? []) + [self.key] }
}

/// A step into a sequence, or to a name that no type of keys has.
enum PickleKey: CodingKey {
    case index(Int)
    case name(String)

    init(_ index: Int) { self = .index(index) }
    init(stringValue: String) { self = .name(stringValue) }
    init(intValue: Int) { self = .index(intValue) }

    var stringValue: String {
        switch self {
        case .index(let index): "Index \(index)"
        case .name(let name): name
        }
    }

    var intValue: Int? {
        switch self {
        case .index(let index): index
        case .name: nil
        }
    }

    static let `super` = PickleKey.name("super")
}

extension [any CodingKey] {
    /// "points[3].x", after the name of the root if it has one.
    func place(root: String) -> String {
        self.reduce(into: root) { place, key in
            if let index = (key as? PickleKey)?.intValue {
                place += "[\(index)]"
            } else {
                place += (place.isEmpty ? "" : ".") + key.stringValue
            }
        }
    }
}
