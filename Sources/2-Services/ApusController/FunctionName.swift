import ApusFunctions
import NIOCore
import Pickle

/// Reads what a function is called by its sender, for errors that name it.
enum FunctionName {
    /// Functions are read for their names up to this size, in bytes.
    private static let largest = 1 << 16

    /// The name; nil for a function without one, or none.
    static func text(in function: ByteBuffer?) -> String? {
        guard let function, function.readableBytes < self.largest else { return nil }
        var buffers = [function][...]
        guard let value = try? ObjectBuffers.deserialize(&buffers) else { return nil }
        return value.referenceName ?? value.pythonFunctionName?.name
    }
}
