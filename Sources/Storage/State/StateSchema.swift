import Prelude
import Raft

/// The tables of a state store, and how older ones become them. docs/disk-format.md has the columns.
enum StateSchema {
    static let version: Int64 = 1
    /// "RAFT": tells the file from other databases.
    static let applicationID: Int64 = 0x5241_4654

    private static let tables = """
        CREATE TABLE head (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            "group" INTEGER NOT NULL, applied_index INTEGER NOT NULL, applied_term INTEGER NOT NULL,
            configuration BLOB NOT NULL, digest INTEGER NOT NULL, revision INTEGER NOT NULL,
            first_answer INTEGER NOT NULL, machine BLOB);
        CREATE TABLE runs (
            run INTEGER PRIMARY KEY, workflow_id TEXT NOT NULL, type TEXT NOT NULL, version INTEGER NOT NULL,
            status TEXT NOT NULL, status_code INTEGER NOT NULL, input_encoding TEXT NOT NULL, input BLOB NOT NULL,
            request_id TEXT NOT NULL, started_ms INTEGER NOT NULL, owner INTEGER NOT NULL,
            owner_incarnation INTEGER NOT NULL, epoch INTEGER NOT NULL, stalled TEXT NOT NULL,
            ended_ms INTEGER NOT NULL, ended_index INTEGER NOT NULL, result_encoding TEXT, result BLOB,
            failure TEXT NOT NULL, remembered INTEGER NOT NULL);
        CREATE INDEX runs_remembered ON runs (run) WHERE remembered = 1;
        CREATE INDEX runs_by_workflow ON runs (workflow_id, run);
        CREATE INDEX runs_by_type ON runs (type, run);
        CREATE INDEX runs_by_status ON runs (status_code, run);
        CREATE TABLE records (
            run INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL, kind_code INTEGER NOT NULL,
            key TEXT NOT NULL, value_encoding TEXT, value BLOB, failure TEXT NOT NULL, attempt INTEGER NOT NULL,
            epoch INTEGER NOT NULL, log_index INTEGER NOT NULL, time_ms INTEGER NOT NULL,
            fire_at_ms INTEGER NOT NULL, pending INTEGER NOT NULL, PRIMARY KEY (run, position)) WITHOUT ROWID;
        CREATE TABLE variables (
            key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE answers (
            sequence INTEGER PRIMARY KEY, kind_code INTEGER NOT NULL, request_id TEXT NOT NULL,
            flag INTEGER NOT NULL, revision INTEGER NOT NULL);
        CREATE TABLE origins (node INTEGER PRIMARY KEY, window BLOB NOT NULL);
        """

    /// Stores that were made before there were traces get it when they are opened. To a program that does not know it, it
    /// is always empty: nothing has a trace before all members do.
    private static let traces = """
        CREATE TABLE IF NOT EXISTS traces (run INTEGER PRIMARY KEY, trace TEXT NOT NULL);
        """

    /// Creates the tables in a new file; refuses a file of a later version and files of other programs.
    static func prepare(_ database: StateDatabase) throws(StorageError) {
        let found = try database.number("PRAGMA user_version")
        guard found <= version else {
            throw .newerVersion(file: database.path, found: UInt32(clamping: found), known: UInt32(version))
        }
        if found == 0 {
            guard try database.number("SELECT count(*) FROM sqlite_schema") == 0 else {
                throw .damaged(file: database.path, offset: 60, reason: "it is not a state store")
            }
            try database.transaction { () throws(StorageError) in
                try database.run(tables)
                try database.run(traces)
                try database.run("PRAGMA application_id = \(applicationID)")
                try database.run("PRAGMA user_version = \(version)")
            }
            try database.checkpoint()
        }
        guard try database.number("PRAGMA application_id") == applicationID else {
            throw .damaged(file: database.path, offset: 68, reason: "it is not a state store")
        }
        if try database.number("SELECT count(*) FROM sqlite_schema WHERE name = 'traces'") == 0 {
            try database.run(traces)
            try database.checkpoint()
        }
    }
}

/// Reads and writes rows.
struct StateRows {
    let database: StateDatabase

    // MARK: Writing

    func apply(_ batch: StateBatch, group: GroupID) throws(StorageError) {
        try database.transaction { () throws(StorageError) in
            if batch.replacesMachine { try removeMachine() }
            for run in batch.runs { try write(run) }
            for record in batch.records { try write(record) }
            for run in batch.forgottenRuns {
                try database.execute("UPDATE runs SET remembered = 0 WHERE run = ?", .number(run.rawValue))
            }
            for key in batch.removedVariables {
                try database.execute("DELETE FROM variables WHERE key = ?", .text(key))
            }
            for variable in batch.variables {
                try database.execute(
                    "INSERT OR REPLACE INTO variables VALUES (?, ?, ?)", .text(variable.key), .bytes(variable.value),
                    .number(variable.revision))
            }
            for answer in batch.answers {
                try database.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", .number(answer.sequence),
                    .integer(Int64(answer.kindCode)), .text(answer.requestID), .integer(answer.flag ? 1 : 0),
                    .number(answer.revision))
            }
            try database.execute("DELETE FROM answers WHERE sequence < ?", .number(batch.firstAnswer))
            for origin in batch.origins {
                try database.execute(
                    "INSERT OR REPLACE INTO origins VALUES (?, ?)", .number(origin.node.rawValue),
                    .bytes(origin.window))
            }
            try write(batch, group)
        }
    }

    private func removeMachine() throws(StorageError) {
        try database.run(
            """
            DELETE FROM records WHERE run IN (SELECT run FROM runs WHERE remembered = 1);
            DELETE FROM traces WHERE run IN (SELECT run FROM runs WHERE remembered = 1);
            DELETE FROM runs WHERE remembered = 1;
            DELETE FROM variables; DELETE FROM answers; DELETE FROM origins;
            """)
    }

    /// The store is as before its first batch, but for the ended runs that only a store knows.
    func removeHead() throws(StorageError) {
        try removeMachine()
        try database.run("DELETE FROM head")
    }

    private func write(_ batch: StateBatch, _ group: GroupID) throws(StorageError) {
        var configuration = ByteWriter()
        configuration.append(batch.head.metadata)
        try database.execute(
            "INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", .number(group.rawValue),
            .number(batch.head.metadata.index.rawValue), .number(batch.head.metadata.term.rawValue),
            .bytes(configuration.bytes), .number(batch.head.digest), .number(batch.head.revision),
            .number(batch.firstAnswer), batch.blob.map { .bytes($0) } ?? .null)
    }

    private func write(_ run: StoredRun) throws(StorageError) {
        try database.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            .number(run.index.rawValue), .text(run.workflowID), .text(run.type), .integer(Int64(run.version)),
            .text(run.status), .integer(Int64(run.statusCode)), .text(run.input.encoding), .bytes(run.input.data),
            .text(run.requestID), .integer(run.startedMilliseconds), .number(run.owner.rawValue),
            .number(run.ownerIncarnation.rawValue), .number(run.epoch.rawValue), .text(run.stalled),
            .integer(run.endedMilliseconds), .number(run.endedIndex.rawValue),
            run.result.map { .text($0.encoding) } ?? .null, run.result.map { .bytes($0.data) } ?? .null,
            .text(run.failure), .integer(run.isRemembered ? 1 : 0))
        guard !run.trace.isEmpty else { return }
        try database.execute(
            "INSERT OR REPLACE INTO traces VALUES (?, ?)", .number(run.index.rawValue), .text(run.trace))
    }

    private func write(_ record: StoredRunRecord) throws(StorageError) {
        try database.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            .number(record.run.rawValue), .integer(Int64(record.position)), .text(record.kind),
            .integer(Int64(record.kindCode)), .text(record.key), record.value.map { .text($0.encoding) } ?? .null,
            record.value.map { .bytes($0.data) } ?? .null, .text(record.failure), .integer(Int64(record.attempt)),
            .number(record.epoch.rawValue), .number(record.index.rawValue), .integer(record.timeMilliseconds),
            .integer(record.fireAtMilliseconds), .integer(record.isPending ? 1 : 0))
    }

    // MARK: Reading

    /// What the store is as of, with what else is in the same row; nil as long as nothing was written.
    func head(group: GroupID) throws(StorageError) -> StoredState? {
        let head = try database.statement(
            "SELECT \"group\", configuration, digest, revision, first_answer, machine FROM head")
        try head.bind([])
        defer { head.reset() }
        guard try head.step() else { return nil }
        guard head.number(0) == group.rawValue else {
            throw damaged("it holds group \(head.number(0)) and not \(group)")
        }
        var state = StoredState(
            head: StateHead(
                metadata: try metadata(head.bytes(1)), digest: head.number(2), revision: head.number(3)))
        state.firstAnswer = head.number(4)
        state.blob = head.isNull(5) ? nil : head.bytes(5)
        return state
    }

    /// Nil as long as nothing was written.
    func load(group: GroupID) throws(StorageError) -> StoredState? {
        guard var state = try head(group: group) else { return nil }
        state.runs = try runs(where: "remembered = 1 ORDER BY run", [])
        state.records = try records(
            where: "run IN (SELECT run FROM runs WHERE remembered = 1) ORDER BY run, position", [])
        try each("SELECT key, value, revision FROM variables ORDER BY key") { row in
            state.variables.append(StoredVariable(key: row.text(0), value: row.bytes(1), revision: row.number(2)))
        }
        try each("SELECT sequence, kind_code, request_id, flag, revision FROM answers ORDER BY sequence") { row in
            state.answers.append(
                StoredAnswer(
                    sequence: row.number(0), kindCode: UInt8(clamping: row.integer(1)), requestID: row.text(2),
                    flag: row.integer(3) != 0, revision: row.number(4)))
        }
        try each("SELECT node, window FROM origins ORDER BY node") { row in
            state.origins.append(StoredOrigin(node: NodeID(row.number(0)), window: row.bytes(1)))
        }
        return state
    }

    private func metadata(_ bytes: [UInt8]) throws(StorageError) -> SnapshotMetadata {
        do throws(MalformedBytes) {
            var reader = ByteReader(bytes)
            let metadata = try reader.snapshotMetadata()
            try reader.end()
            return metadata
        } catch {
            throw damaged("the configuration: expected \(error.expected)")
        }
    }

    private func damaged(_ reason: String) -> StorageError {
        .damaged(file: database.path, offset: 0, reason: reason)
    }

    private func each(
        _ sql: String, _ values: [StateValue] = [], _ body: (StateStatement) -> Void
    ) throws(StorageError) {
        let statement = try database.statement(sql)
        try statement.bind(values)
        defer { statement.reset() }
        while try statement.step() { body(statement) }
    }

    func runs(where condition: String, _ values: [StateValue]) throws(StorageError) -> [StoredRun] {
        var runs: [StoredRun] = []
        try each(
            """
            SELECT run, workflow_id, type, version, status, status_code, input_encoding, input, request_id, started_ms,
            owner, owner_incarnation, epoch, stalled, ended_ms, ended_index, result_encoding, result, failure,
            remembered, (SELECT trace FROM traces WHERE traces.run = runs.run) FROM runs WHERE \(condition)
            """, values
        ) { row in runs.append(StoredRun(row)) }
        return runs
    }

    func records(where condition: String, _ values: [StateValue]) throws(StorageError) -> [StoredRunRecord] {
        var records: [StoredRunRecord] = []
        try each(
            """
            SELECT run, position, kind, kind_code, key, value_encoding, value, failure, attempt, epoch, log_index,
            time_ms, fire_at_ms, pending FROM records WHERE \(condition)
            """, values
        ) { row in records.append(StoredRunRecord(row)) }
        return records
    }

    /// Newest first.
    func list(_ filter: RunFilter, limit: Int) throws(StorageError) -> [StoredRun] {
        var conditions = ["run < ?"]
        // Every index of a log is below 2^63.
        var values: [StateValue] = [.integer(filter.before.map { Int64(clamping: $0.rawValue) } ?? .max)]
        func require(_ condition: String, _ value: StateValue?) {
            guard let value else { return }
            conditions.append(condition)
            values.append(value)
        }
        require("type = ?", filter.type.map { .text($0) })
        require("status_code = ?", filter.statusCode.map { .integer(Int64($0)) })
        require("workflow_id = ?", filter.workflowID.map { .text($0) })
        values.append(.integer(Int64(limit)))
        return try runs(where: conditions.joined(separator: " AND ") + " ORDER BY run DESC LIMIT ?", values)
    }
}

extension StoredRun {
    fileprivate init(_ row: StateStatement) {
        self.init(
            index: LogIndex(row.number(0)), workflowID: row.text(1), type: row.text(2),
            version: UInt32(clamping: row.integer(3)), status: row.text(4),
            statusCode: UInt32(clamping: row.integer(5)),
            input: StoredPayload(encoding: row.text(6), data: row.bytes(7)), requestID: row.text(8),
            startedMilliseconds: row.integer(9), owner: NodeID(row.number(10)),
            ownerIncarnation: Incarnation(row.number(11)), epoch: Epoch(row.number(12)), stalled: row.text(13),
            endedMilliseconds: row.integer(14), endedIndex: LogIndex(row.number(15)),
            result: row.isNull(16) ? nil : StoredPayload(encoding: row.text(16), data: row.bytes(17)),
            failure: row.text(18), isRemembered: row.integer(19) != 0, trace: row.text(20))
    }
}

extension StoredRunRecord {
    fileprivate init(_ row: StateStatement) {
        self.init(
            run: LogIndex(row.number(0)), position: UInt32(clamping: row.integer(1)), kind: row.text(2),
            kindCode: UInt8(clamping: row.integer(3)), key: row.text(4),
            value: row.isNull(5) ? nil : StoredPayload(encoding: row.text(5), data: row.bytes(6)),
            failure: row.text(7), attempt: UInt32(clamping: row.integer(8)), epoch: Epoch(row.number(9)),
            index: LogIndex(row.number(10)), timeMilliseconds: row.integer(11), fireAtMilliseconds: row.integer(12),
            isPending: row.integer(13) != 0)
    }
}
