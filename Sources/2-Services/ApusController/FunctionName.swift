import ApusFunctions
import NIOCore
import Pickle

/// Reads the name of a request's function, for error messages.
enum FunctionName {
    /// A function of this many bytes or more is not read for its name.
    private static let largest = 1 << 16

    /// The name of a function; nil for a function without a name, or for no function.
    static func text(in function: ByteBuffer?) -> String? {
        guard let function, function.readableBytes < self.largest else { return nil }
        var buffers = [function][...]
        guard let value = try? ObjectBuffers.deserialize(&buffers) else { return nil }
        return value.referenceName ?? value.pythonFunctionName?.name
    }
}
