#if canImport(FoundationEssentials)
    private import FoundationEssentials
#else
    private import Foundation
#endif
import NIOCore
import Pickle

/// A `Codable` error as it travels beside its description, so that the client can throw it as itself.
///
/// The type travels by its mangled name, which any program that has the type resolves. Private types have no such name; their errors
/// arrive as descriptions.
package struct TravellingError: Sendable, Hashable {
    /// The mangled name of the error's type.
    package let type: String
    /// The error's pickle, in base 64.
    package let value: String

    /// An error as it was received, not yet decoded.
    package init(type: String, value: String) {
        self.type = type
        self.value = value
    }

    /// Encodes an error. Nil for one that is not `Codable`, cannot be encoded, is large, or has a type that no other process can
    /// find.
    package init?(_ error: any Error) {
        guard let error = error as? any Error & Codable, let type = _mangledTypeName(Swift.type(of: error)),
            Self.mayBeResolved(type), let value = try? PickleEncoder().encode(error)
        else { return nil }
        let pickle = PickleWriter().write(value)
        guard pickle.readableBytes <= Self.sizeLimit else { return nil }
        self.type = type
        self.value = Data(pickle.readableBytesView).base64EncodedString()
    }

    /// The error; nil where this program has no such type, or the type does not read the value.
    package var error: (any Error)? {
        guard Self.mayBeResolved(self.type), let type = _typeByName(self.type) as? any (Error & Codable).Type,
            let data = Data(base64Encoded: self.value), data.count <= Self.sizeLimit,
            let value = try? PickleReader().read(ByteBuffer(bytes: data))
        else { return nil }
        func decode<Failure: Error & Codable>(_ type: Failure.Type) -> (any Error)? {
            try? PickleDecoder().decode(type, from: value)
        }
        return decode(type)
    }

    /// Bytes of the largest error that travels as itself. A larger one travels as its description only, because the reply, the
    /// task's record and the client's memory each hold the error.
    private static let sizeLimit = 64 << 10

    /// Whether the text can be a mangled name of which every part is a name: letters, digits and underscores. A private type's name has
    /// an address in it, behind a `$`, that says nothing to another process.
    private static func mayBeResolved(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 500
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}
