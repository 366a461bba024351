package import Pickle

/// Functions of Python, in the forms in which a request can name them without carrying Python code.
package enum PythonCall {
    /// Binds its keyword arguments in the engine's namespace.
    ///
    /// ipyparallel's own helper, named so that every Python engine imports it: it reaches the namespace through IPython, not
    /// through its module.
    package static let pushFunction = PickleValue.global(module: "ipyparallel.util", name: "_push")

    /// Evaluates a text, or a list of texts, in the engine's namespace.
    package static let pullFunction = PickleValue.global(module: "ipyparallel.util", name: "_pull")

    /// Calls its first argument with the elements of the others, and gives the list of results.
    package static let mapFunction = PickleValue.global(module: "ipyparallel.client.remotefunction", name: "_map")

    /// As ``mapFunction``, on sequences that are named in the namespace and removed from it.
    package static let broadcastMapFunction = PickleValue.global(
        module: "ipyparallel.client.view", name: "BroadcastView._broadcast_map")

    /// As ``mapFunction``, but each call has an outcome of its own, and after a time, its second argument in seconds, no further call
    /// begins. Gives the list of results; where some calls failed, a dictionary with `results` and, as `apus_outcomes`, the place, class,
    /// text and traceback of each failure.
    ///
    /// The function travels as an expression, which any Python engine evaluates, ipyparallel's among them.
    package static let outcomesMapFunction = PickleValue.reference(Self.outcomesMap)

    /// The text of ``outcomesMapFunction``.
    static let outcomesMap: String = {
        let source = """
            def outcomes(function, seconds, *sequences):
                import time, traceback
                end = time.monotonic() + seconds
                results, failures = [], []
                for arguments in zip(*sequences):
                    if results and seconds and time.monotonic() >= end:
                        break
                    result = None
                    try:
                        result = function(*arguments)
                    except Exception as error:
                        if type(error).__name__ == 'UnmetDependency':
                            raise
                        lines = traceback.format_exception(type(error), error, error.__traceback__)
                        failures.append((len(results), type(error).__name__, str(error), lines))
                    results.append(result)
                return {'apus_outcomes': failures, 'results': results} if failures else results
            """
        let literal = source.replacing("\n", with: "\\n")
        return "(lambda scope: (exec(\"\(literal)\", scope), scope['outcomes'])[1])({})"
    }()

    /// A function that the engine gets when it evaluates the expression, a name or a `lambda`, in its namespace before the call.
    package static func source(_ expression: String) -> PickleValue { .reference(expression) }

    /// A function or class that the engine imports.
    package static func imported(_ name: String, from module: String) -> PickleValue { .global(module: module, name: name) }
}

/// ipyparallel's helper functions, which a Python client sends as code; an engine without Python does their work by itself.
package enum PythonHelper: Sendable, Hashable {
    /// `(**names)`: binds each keyword; a key may be any expression that can be assigned to.
    case push
    /// `(keys)`: evaluates a text, or each of several.
    case pull
    /// `(function, *sequences)`: calls the function with an element of each.
    case map
    /// `(function, seconds, *sequences)`: as map, in the form of ``PythonCall/outcomesMapFunction``.
    case outcomesMap
    /// `(function, *names)`: as map, with sequences that are removed from the namespace.
    case broadcastMap
    /// `(*modules, **objects)`: imports and binds, or raises `UnmetDependency`.
    case require
    /// `()`: chooses the library with which the engine serialises results from then on.
    case usePickle, useDill, useCloudpickle

    /// The helper that a request's function stands for, as code or by name; nil if the function is no helper.
    package init?(_ function: PickleValue) {
        if function.referenceName == PythonCall.outcomesMap {
            self = .outcomesMap
            return
        }
        guard let name = function.pythonFunctionName else { return nil }
        switch (name.module, name.name) {
        case ("ipyparallel.util", "_push"): self = .push
        case ("ipyparallel.util", "_pull"): self = .pull
        case ("ipyparallel.client.remotefunction", "_map"): self = .map
        case ("ipyparallel.client.view", "_broadcast_map"), ("ipyparallel.client.view", "BroadcastView._broadcast_map"):
            self = .broadcastMap
        case ("__main__", "_require"), ("ipyparallel.controller.dependency", "_require"): self = .require
        case (CannedValue.module, "use_pickle"): self = .usePickle
        case (CannedValue.module, "use_dill"): self = .useDill
        case (CannedValue.module, "use_cloudpickle"): self = .useCloudpickle
        default: return nil
        }
    }
}
