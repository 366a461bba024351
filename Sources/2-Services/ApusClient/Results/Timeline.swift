public import ApusWire

/// When and on which engine each of many tasks ran, for a chart with a lane for each engine and a bar for each task.
public struct Timeline: Sendable {
    /// One task on its engine.
    public struct Bar: Sendable {
        /// The task's id.
        public let task: TaskID
        /// The engine that ran the task; nil where the engine has left since.
        public let engine: EngineID?
        /// Seconds from the first submission of all tasks to when the engine began.
        public let start: Double
        /// Seconds from the first submission of all tasks to when the engine had finished.
        public let end: Double
        /// Seconds from the first submission of all tasks to the submission of this task.
        public let submitted: Double
        /// How the task ended.
        public let status: TaskMetadata.Status?
        /// The label of the view that the task was sent through.
        public let label: String?
    }

    /// The tasks that ran, in the order in which they began.
    public let bars: [Bar]
    /// Seconds from the first submission to the last end.
    public let duration: Double

    /// Makes the timeline of tasks, of one result or several; tasks that did not run, or have not ended, are left out.
    public init(_ tasks: [TaskMetadata]) {
        let origin = tasks.map { $0.submitted }.min() ?? WireDate(microseconds: 0)
        self.bars = tasks.compactMap { task in
            guard let started = task.started, let completed = task.completed else { return nil }
            return Bar(
                task: task.id, engine: task.engineID, start: started.seconds(since: origin),
                end: completed.seconds(since: origin), submitted: task.submitted.seconds(since: origin), status: task.status,
                label: task.label)
        }.sorted { $0.start < $1.start }
        self.duration = self.bars.map { $0.end }.max() ?? 0
    }

    /// The engines that ran tasks, in order.
    public var engines: [EngineID] { Set(self.bars.compactMap { $0.engine }).sorted() }

    /// The chart as an SVG document: a lane per engine, a bar per task with its id and times as a tooltip, errors in red.
    ///
    /// - Parameter width: In pixels, the lanes' names included.
    public func svg(width: Int = 960) -> String {
        let (left, laneHeight, top) = (72.0, 26.0, 10.0)
        let lanes = self.engines
        let rows = Dictionary(uniqueKeysWithValues: lanes.enumerated().map { ($1, $0) })
        let room = max(Double(width) - left - 10, 1)
        let scale = self.duration > 0 ? room / self.duration : 0
        let bottom = top + laneHeight * Double(max(lanes.count, 1))
        let height = Int(bottom + 34)
        var text = """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" \
            font-family="sans-serif" font-size="11">

            """
        for (row, engine) in lanes.enumerated() {
            let y = top + laneHeight * Double(row)
            text += "<text x=\"4\" y=\"\(Self.text(y + 16))\">engine \(engine)</text>\n"
            text += "<line x1=\"\(Self.text(left))\" y1=\"\(Self.text(y + laneHeight - 1))\" x2=\"\(Self.text(left + room))\" "
            text += "y2=\"\(Self.text(y + laneHeight - 1))\" stroke=\"#ddd\"/>\n"
        }
        for bar in self.bars {
            guard let engine = bar.engine, let row = rows[engine] else { continue }
            let (x, y) = (left + bar.start * scale, top + laneHeight * Double(row) + 4)
            let color = bar.status == .error ? "#c43c39" : "#3b78b0"
            text +=
                "<rect x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" width=\"\(Self.text(max((bar.end - bar.start) * scale, 0.5)))\" "
            text += "height=\"\(Self.text(laneHeight - 9))\" fill=\"\(color)\" stroke=\"#fff\" stroke-width=\"0.5\"><title>"
            text += Self.escaped(bar.label.map { "\($0) " } ?? "") + Self.escaped("\(bar.task)")
            text += ": \(Self.text(bar.start)) to \(Self.text(bar.end)) s</title></rect>\n"
        }
        for tick in 0...4 {
            let x = left + room * Double(tick) / 4
            text += "<text x=\"\(Self.text(x))\" y=\"\(Self.text(bottom + 20))\" text-anchor=\"\(tick == 4 ? "end" : "middle")\">"
            text += "\(Self.text(self.duration * Double(tick) / 4)) s</text>\n"
        }
        return text + "</svg>\n"
    }

    /// Writes a number with three decimal places, which are enough for pixels.
    private static func text(_ number: Double) -> String {
        let rounded = (number * 1000).rounded() / 1000
        return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}

extension AsyncResult {
    /// When and where the tasks that have ended ran.
    public var timeline: Timeline { Timeline(self.metadata) }
}

extension AsyncMapResult {
    /// When and where the tasks that have ended ran; a task makes one call or several.
    public var timeline: Timeline { Timeline(self.metadata) }
}
