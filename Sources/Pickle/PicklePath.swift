/// Where in a value an encoder or decoder is: the way from the root, innermost step first.
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
struct PickleKey: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(_ index: Int) {
        self.stringValue = "Index \(index)"
        self.intValue = index
    }

    init(stringValue: String) {
        self.stringValue = stringValue
        self.intValue = nil
    }

    init(intValue: Int) { self.init(intValue) }

    static let `super` = PickleKey(stringValue: "super")
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
