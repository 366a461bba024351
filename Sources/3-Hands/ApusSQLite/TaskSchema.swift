/// How a file of task records is laid out.
enum TaskSchema {
    /// The statements that make each version out of the one before; a file's `user_version` counts those that were applied.
    static let migrations = [Self.first, Self.second, Self.third]

    /// A task's dates are microseconds since 1970, its parts the packed bytes as they came. `client` is null in a stub and
    /// `completed` until the end. The columns from `client` to `resubmitted` repeat values of the parts, for indexes.
    ///
    /// Buffers are in a table of their own, so that a query over many records does not step over them. See ``Payload`` for their
    /// keys.
    private static let first = """
        CREATE TABLE tasks (
            serial INTEGER PRIMARY KEY,
            msg_id TEXT NOT NULL UNIQUE,
            client TEXT, submitted INTEGER, queue TEXT, engine TEXT,
            started INTEGER, completed INTEGER, received INTEGER, resubmitted TEXT,
            output_bytes INTEGER NOT NULL DEFAULT 0,
            header BLOB, metadata BLOB, content BLOB,
            result_header BLOB, result_metadata BLOB, result_content BLOB
        );
        CREATE INDEX tasks_by_client ON tasks (client);
        CREATE INDEX tasks_by_submission ON tasks (submitted);
        CREATE INDEX tasks_by_engine ON tasks (engine) WHERE engine IS NOT NULL;
        CREATE INDEX tasks_by_completion ON tasks (completed) WHERE completed IS NOT NULL;
        CREATE INDEX stubs ON tasks (serial) WHERE client IS NULL;
        CREATE TABLE payloads (key INTEGER PRIMARY KEY, data BLOB NOT NULL);
        CREATE TABLE outputs (serial INTEGER PRIMARY KEY, task INTEGER NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL);
        CREATE INDEX outputs_by_task ON outputs (task);
        """

    /// How often a task had failed when it was last sent to an engine, and a way to those that have not ended.
    private static let second = """
        ALTER TABLE tasks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX unfinished ON tasks (serial) WHERE completed IS NULL AND client IS NOT NULL;
        """

    /// Changes that are not in the tables yet, and for each record the last row of the journal whose changes it has. The numbers of
    /// the journal's rows are never used again.
    private static let third = """
        CREATE TABLE journal (row INTEGER PRIMARY KEY AUTOINCREMENT, changes BLOB NOT NULL);
        ALTER TABLE tasks ADD COLUMN journal INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX tasks_by_journal ON tasks (journal) WHERE journal > 0;
        """
}
