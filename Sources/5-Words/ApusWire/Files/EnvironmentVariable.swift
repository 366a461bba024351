/// The environment variables that programs of a cluster read.
///
/// Variables that begin with `IPP_` are ipyparallel's, and `IPYTHONDIR` is IPython's. One more, `APUS_SHARED_MEMORY`, is
/// `SharedMemory.disablingVariable`.
package enum EnvironmentVariable {
    /// The id of the cluster that a controller or an engine belongs to.
    package static let clusterID = "IPP_CLUSTER_ID"
    /// The folder of the profile.
    package static let profileDirectory = "IPP_PROFILE_DIR"
    /// IPython's folder, in which profiles are.
    package static let ipythonDirectory = "IPYTHONDIR"
    /// The text of an engine's connection file, for an engine that has none.
    package static let connectionInfo = "IPP_CONNECTION_INFO"
    /// The key that signs messages.
    package static let sessionKey = "IPP_SESSION_KEY"
    /// 1: encrypt with CURVE.
    package static let enableCurve = "IPP_ENABLE_CURVE"

    /// 1: this process is an engine, and the program's `main` does not run.
    package static let engineMode = "APUS_ENGINE_MODE"
    /// 1: this process is a controller that its cluster starts again when it dies, and the program's `main` does not run.
    package static let controllerMode = "APUS_CONTROLLER_MODE"
    /// The uuid that a launcher gives an engine, the same at every start in the same place.
    package static let engineUUID = "APUS_ENGINE_UUID"
    /// The interpreter of an engine that runs Python beside its program's Swift functions: a path or a name, or nothing, for the active
    /// environment's.
    package static let enginePython = "APUS_ENGINE_PYTHON"
    /// The resources that an engine owns: `gpu=1,memory=64`.
    package static let engineResources = "APUS_ENGINE_RESOURCES"
    /// The descriptor whose end of file says that the process which started this one is gone. A controller and its cluster send each
    /// other lines there.
    package static let parentDescriptor = "APUS_PARENT_FD"
    /// The size of the largest message that is accepted, in bytes.
    package static let maximumMessageSize = "APUS_MAX_MESSAGE_SIZE"
}
