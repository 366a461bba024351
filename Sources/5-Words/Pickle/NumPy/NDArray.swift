public import NIOCore

/// An n-dimensional array of numbers, as NumPy's `ndarray`.
///
/// The elements lie in one piece of memory, the last index running fastest (C order), in the byte order their type states.
/// An array that came in a message shares the message's memory, and one that is sent is sent without a copy.
///
/// ```swift
/// let matrix = NDArray([1.0, 2, 3, 4, 5, 6], shape: [2, 3])
/// try matrix[1, 2, as: Double.self]  // 6.0
/// try matrix.elements(as: Double.self)  // [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
/// ```
public struct NDArray: Sendable, Hashable {
    /// The length along each axis; empty for a single number.
    public let shape: [Int]
    /// The type of each element.
    public let scalarType: NDArrayScalarType
    /// The elements' bytes, as many as shape and type say.
    public let data: ByteBuffer

    /// An array over existing bytes, which are not copied.
    ///
    /// - Throws: ``PickleError`` with code `shapeMismatch` if the shape needs more or fewer bytes, or is absurd.
    public init(data: ByteBuffer, shape: [Int], scalarType: NDArrayScalarType) throws {
        guard let count = Self.count(of: shape), case (let size, false) = count.multipliedReportingOverflow(by: scalarType.size)
        else { throw PickleError(.shapeMismatch, "no array has the shape \(shape)") }
        guard size == data.readableBytes else {
            throw PickleError(
                .shapeMismatch, "an array of \(scalarType) with shape \(shape) takes \(size) bytes, found \(data.readableBytes)")
        }
        self.init(unchecked: data, shape: shape, scalarType: scalarType)
    }

    init(unchecked data: ByteBuffer, shape: [Int], scalarType: NDArrayScalarType) {
        self.data = data
        self.shape = shape
        self.scalarType = scalarType
    }

    /// An array of these elements, copied; of one dimension unless a shape is given.
    ///
    /// The shape must have as many places as there are elements.
    public init<Scalar: NDArrayScalar>(_ elements: [Scalar], shape: [Int]? = nil) {
        let shape = shape ?? [elements.count]
        precondition(Self.count(of: shape) == elements.count, "\(elements.count) elements do not fill the shape \(shape)")
        var data = ByteBufferAllocator().buffer(capacity: elements.count * MemoryLayout<Scalar>.stride)
        elements.withUnsafeBytes { _ = data.writeBytes($0) }
        self.init(unchecked: data, shape: shape, scalarType: Scalar.scalarType)
    }

    /// How many elements there are.
    public var count: Int { self.shape.reduce(1, *) }

    /// The number of elements of a shape; nil if a length is negative or the product does not fit.
    static func count(of shape: [Int]) -> Int? {
        // A product with a zero in it is zero, yet its other lengths must be sensible as well (NumPy asks the same).
        var (count, room) = (1, 1)
        for length in shape {
            guard length >= 0 else { return nil }
            count = count.multipliedReportingOverflow(by: length).partialValue
            let (product, overflow) = room.multipliedReportingOverflow(by: max(1, length))
            guard !overflow else { return nil }
            room = product
        }
        return count
    }

    /// The same elements under another shape of as many places. Shares the memory.
    public func reshaped(_ shape: [Int]) throws -> NDArray {
        guard Self.count(of: shape) == self.count else {
            throw PickleError(.shapeMismatch, "\(self.count) elements do not fill the shape \(shape)")
        }
        return NDArray(unchecked: self.data, shape: shape, scalarType: self.scalarType)
    }

    /// A part along the first axis. Shares the memory.
    public subscript(rows range: Range<Int>) -> NDArray {
        precondition(!self.shape.isEmpty, "a single number has no rows")
        precondition(range.lowerBound >= 0 && range.upperBound <= self.shape[0], "rows \(range) of \(self.shape[0])")
        let rowSize = self.shape.dropFirst().reduce(self.scalarType.size, *)
        let start = self.data.readerIndex + range.lowerBound * rowSize
        let part = self.data.getSlice(at: start, length: range.count * rowSize)!
        return NDArray(unchecked: part, shape: [range.count] + self.shape.dropFirst(), scalarType: self.scalarType)
    }
}

extension NDArray {
    /// The elements, in C order.
    ///
    /// - Throws: ``PickleError`` with code `scalarMismatch` unless the array holds exactly this type (in either byte order).
    public func elements<Scalar: NDArrayScalar>(as type: Scalar.Type = Scalar.self) throws -> [Scalar] {
        try self.check(type)
        let swaps = self.scalarType.isByteSwapped
        return self.data.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else { return [] }
            return [Scalar](unsafeUninitializedCapacity: bytes.count / MemoryLayout<Scalar>.stride) { elements, count in
                count = bytes.count / MemoryLayout<Scalar>.stride
                UnsafeMutableRawBufferPointer(elements).baseAddress!.copyMemory(from: base, byteCount: bytes.count)
                if swaps { for place in 0..<count { elements[place] = elements[place].byteSwapped } }
                if Scalar.self == Bool.self {
                    // A bool byte other than 0 and 1 would be no valid Swift value.
                    UnsafeMutableRawBufferPointer(start: elements.baseAddress, count: count).normalizeBooleans()
                }
            }
        }
    }

    /// Lends the elements without a copy, where byte order and alignment allow; else lends a copy.
    public func withElements<Scalar: NDArrayScalar, Result>(
        as type: Scalar.Type = Scalar.self, _ body: (UnsafeBufferPointer<Scalar>) throws -> Result
    ) throws -> Result {
        try self.check(type)
        let isPlain = !self.scalarType.isByteSwapped && Scalar.self != Bool.self
        let lent: Result? = try self.data.withUnsafeReadableBytes { bytes in
            guard isPlain, let base = bytes.baseAddress, Int(bitPattern: base) % MemoryLayout<Scalar>.alignment == 0 else {
                return nil
            }
            return try bytes.withMemoryRebound(to: Scalar.self, body)
        }
        if let lent { return lent }
        return try self.elements(as: type).withUnsafeBufferPointer(body)
    }

    /// One element, an index for each axis.
    public subscript<Scalar: NDArrayScalar>(indices: Int..., as type: Scalar.Type) -> Scalar {
        get throws {
            try self.check(type)
            guard indices.count == self.shape.count, zip(indices, self.shape).allSatisfy({ $0 >= 0 && $0 < $1 }) else {
                throw PickleError(.outOfRange, "an array of shape \(self.shape) has no element \(indices)")
            }
            let place = zip(indices, self.shape).reduce(0) { $0 * $1.1 + $1.0 }
            let start = self.data.readerIndex + place * MemoryLayout<Scalar>.stride
            let one = NDArray(
                unchecked: self.data.getSlice(at: start, length: MemoryLayout<Scalar>.stride)!, shape: [],
                scalarType: self.scalarType)
            return try one.elements(as: type)[0]
        }
    }

    private func check<Scalar: NDArrayScalar>(_ type: Scalar.Type) throws {
        guard self.scalarType == Scalar.scalarType || self.scalarType.nativeOrder == Scalar.scalarType else {
            throw PickleError(
                .scalarMismatch,
                "expected an array of \(Scalar.self) (\(Scalar.scalarType)), found \(self.scalarType.spelledOut) with shape \(self.shape)"
            )
        }
    }
}

extension UnsafeMutableRawBufferPointer {
    fileprivate func normalizeBooleans() {
        for place in self.indices where self[place] > 1 { self[place] = 1 }
    }
}
