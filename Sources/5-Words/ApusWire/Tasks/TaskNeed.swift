/// What a task asks of the engine that runs it.
package indirect enum TaskNeed: Sendable, Hashable {
    case python
    /// A Swift function of this name; where no engine has one, it is an expression of Python's.
    case name(String)
    /// A closure of this build.
    case build(String)
    /// A run limit, besides what the function itself needs.
    case limit(TaskNeed?)
}
