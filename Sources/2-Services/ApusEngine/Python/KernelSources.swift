import ApusWire
import NIOCore

/// The kernel's Python source, which is part of this binary.
enum KernelSources {
    static let boot = String(decoding: PackageResources.boot_py, as: UTF8.self)

    /// The kernel's modules as a JSON object: name to text.
    static let packed: ByteBuffer = {
        let sources: [(String, [UInt8])] = [
            ("calls", PackageResources.calls_py), ("channel", PackageResources.channel_py),
            ("comms", PackageResources.comms_py), ("ipython_shell", PackageResources.ipython_shell_py),
            ("kernel", PackageResources.kernel_py), ("lazy", PackageResources.lazy_py), ("loop", PackageResources.loop_py),
            ("memory", PackageResources.memory_py), ("output", PackageResources.output_py),
            ("plain_shell", PackageResources.plain_shell_py),
        ]
        var texts: JSONObject = [:]
        for (name, bytes) in sources { texts[name] = .string(String(decoding: bytes, as: UTF8.self)) }
        return JSONValue.object(texts).packed
    }()
}
