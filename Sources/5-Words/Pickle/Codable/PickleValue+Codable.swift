import NIOCore

// This module's encoder and decoder pass these values through. Others (JSON, say) get the values that their format can hold.

extension PickleValue: Codable {
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .none: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .bigInteger(let value): try container.encode(value.description)
        case .float(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .list(let elements), .tuple(let elements): try container.encode(elements)
        case .set(let set), .frozenSet(let set): try container.encode(set.elements)
        case .array(let array): try container.encode(array)
        case .dictionary(let dictionary):
            var keyed = encoder.container(keyedBy: PickleKey.self)
            for (key, value) in dictionary {
                guard case .string(let name) = key else { throw self.notEncodable(to: encoder) }
                try keyed.encode(value, forKey: PickleKey(stringValue: name))
            }
        default: throw self.notEncodable(to: encoder)
        }
    }

    private func notEncodable(to encoder: any Encoder) -> EncodingError {
        .invalidValue(
            self, .init(codingPath: encoder.codingPath, debugDescription: "\(self.summary) can only be encoded by PickleEncoder"))
    }

    public init(from decoder: any Decoder) throws {
        if let keyed = try? decoder.container(keyedBy: PickleKey.self) {
            self = .dictionary(
                try keyed.allKeys.map { (.string($0.stringValue), try keyed.decode(PickleValue.self, forKey: $0)) })
            return
        }
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .none
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .float(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else {
            self = .list(try container.decode([PickleValue].self))
        }
    }
}

extension NDArray: Codable {
    private enum CodingKeys: String, CodingKey {
        case shape, dtype, data
    }

    public func encode(to encoder: any Encoder) throws {
        guard self.scalarType.fields == nil else {
            throw EncodingError.invalidValue(
                self,
                .init(
                    codingPath: encoder.codingPath, debugDescription: "an array of records can only be encoded by PickleEncoder"))
        }
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(self.shape, forKey: .shape)
        try container.encode(self.scalarType.description, forKey: .dtype)
        try container.encode(Array(self.data.readableBytesView), forKey: .data)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        try self.init(
            data: ByteBuffer(bytes: try container.decode([UInt8].self, forKey: .data)),
            shape: try container.decode([Int].self, forKey: .shape),
            scalarType: try NDArrayScalarType(try container.decode(String.self, forKey: .dtype)))
    }
}
