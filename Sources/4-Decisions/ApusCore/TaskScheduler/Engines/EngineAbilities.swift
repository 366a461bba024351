import ApusWire

/// What an engine can run, as it said at its registration or in a later announcement.
package struct EngineAbilities: Sendable, Hashable {
    package var runsPython: Bool
    /// The names of the engine's Swift functions; a function may have several.
    package var functions: Set<String>
    /// The build that closures must come from; nil for an engine without Swift functions.
    package var build: String?
    /// Whether the engine stops a task at its run limit.
    package var keepsLimits: Bool

    package init(runsPython: Bool, functions: Set<String> = [], build: String? = nil, keepsLimits: Bool = true) {
        self.runsPython = runsPython
        self.functions = functions
        self.build = build
        self.keepsLimits = keepsLimits
    }

    /// The abilities of an engine that announces none, as those of ipyparallel do: they run Python.
    package static let stock = EngineAbilities(runsPython: true, keepsLimits: false)
}

extension EngineAbilities: CustomStringConvertible {
    /// A text that is the same for equal abilities; the description of a set is not.
    package var description: String {
        let python = self.runsPython ? ["Python"] : []
        let build = self.build.map { ["build \($0)"] } ?? []
        let limits = self.keepsLimits ? ["limits"] : []
        return "[" + (python + self.functions.sorted() + build + limits).joined(separator: ", ") + "]"
    }
}

extension TaskScheduler {
    /// Engines with equal abilities.
    struct EngineKind: Sendable {
        let abilities: EngineAbilities
        /// How many registered engines are of this kind.
        var count: Int
    }

    /// The serial numbers of the registered engines that can run what the task needs, in order; nil if all can or none can.
    ///
    /// If none can, any engine gets the task and answers why it cannot, because an engine that can may never be started.
    func ableEngines(for slot: Int32) -> [Int32]? {
        guard self.kinds.count > 1, let need = self.tasks[Int(slot)].need else { return nil }
        if let known = self.ableByNeed[need] { return known }
        return self.findAble(for: need)
    }

    /// Looks up the engines that meet a need, and keeps the answer until engines come or go.
    mutating func rememberAble(for need: TaskNeed?) {
        guard self.kinds.count > 1, let need, self.ableByNeed[need] == nil else { return }
        if self.ableByNeed.count >= 64 { self.ableByNeed.removeAll(keepingCapacity: true) }
        self.ableByNeed[need] = .some(self.findAble(for: need))
    }

    private func findAble(for need: TaskNeed) -> [Int32]? {
        var able = self.kinds.map { $0.count > 0 && $0.abilities.has(need) }
        if !able.contains(true) { able = self.kinds.map { $0.count > 0 && $0.abilities.mayHave(need) } }
        guard able.contains(true) else { return nil }
        let serials = self.registered.filter { able[Int(self.engines[Int($0.value)].kind)] }.map(\.key)
        return serials.count == self.registered.count ? nil : serials.sorted()
    }

    /// Notes the abilities of a new engine. Ready tasks are looked at again, because the engine may be the first that can run
    /// them, or the first that cannot.
    mutating func countKind(of engine: Int32, _ abilities: EngineAbilities) {
        self.ableByNeed.removeAll(keepingCapacity: true)
        let kind: Int
        if let known = self.kinds.firstIndex(where: { $0.abilities == abilities }) {
            kind = known
            self.kinds[kind].count += 1
        } else if let free = self.kinds.firstIndex(where: { $0.count == 0 }) {
            kind = free
            self.kinds[kind] = EngineKind(abilities: abilities, count: 1)
        } else {
            kind = self.kinds.count
            self.kinds.append(EngineKind(abilities: abilities, count: 1))
        }
        self.engines[Int(engine)].kind = Int32(kind)
        guard self.kinds.count > 1 else { return }
        for slot in self.tasks.indices where self.tasks[slot].status == .ready && self.tasks[slot].need != nil {
            self.awakened.append(self.handle(Int32(slot)))
        }
    }

    mutating func discountKind(of engine: Int32) {
        self.ableByNeed.removeAll(keepingCapacity: true)
        self.kinds[Int(self.engines[Int(engine)].kind)].count -= 1
    }
}

extension EngineAbilities {
    /// Whether the abilities include exactly what the need names.
    func has(_ need: TaskNeed) -> Bool {
        switch need {
        case .python: self.runsPython
        case .name(let name): self.functions.contains(name)
        case .build(let build): self.build == build
        case .limit(let need): self.keepsLimits && need.map(self.has) ?? true
        }
    }

    /// Whether the engine might run the need all the same: a name that no engine has may be a Python expression.
    func mayHave(_ need: TaskNeed) -> Bool {
        switch need {
        case .python, .build: self.has(need)
        case .name: self.runsPython
        case .limit(let need): self.keepsLimits && need.map(self.mayHave) ?? true
        }
    }
}
