import ApusWire

extension ControllerSettings {
    /// The short names of a controller's settings, those of `ipcontroller` and ours.
    static let names = TraitArguments.Vocabulary(
        aliases: [
            "ssh": ("IPController", "ssh_server"), "enginessh": ("IPController", "engine_ssh_server"),
            "location": ("IPController", "location"), "ip": ("IPController", "ip"), "transport": ("IPController", "transport"),
            "port": ("IPController", "regport"), "ports": ("IPController", "ports"), "ping": ("HeartMonitor", "period"),
            "scheme": ("TaskScheduler", "scheme_name"), "hwm": ("TaskScheduler", "hwm"),
            "log-level": ("IPController", "log_level"),
            "profile-dir": ("ProfileDir", "location"), "profile": ("IPController", "profile"),
            "ipython-dir": ("IPController", "ipython_dir"), "config": ("IPController", "extra_config_file"),
            "work-dir": ("IPController", "work_dir"), "log-to-file": ("IPController", "log_to_file"),
            "clean-logs": ("IPController", "clean_logs"), "log-url": ("IPController", "log_url"),
            "cluster-id": ("IPController", "cluster_id"), "ident": ("Session", "session"), "user": ("Session", "username"),
            "keyfile": ("Session", "keyfile"),
            // Python has none of these settings.
            "engine-timeout": ("TaskScheduler", "engine_timeout"),
            "dependency-interval": ("TaskScheduler", "dependency_interval"),
            "max-message-size": ("IPController", "max_message_size"), "max-unread": ("IPController", "max_unread"),
            "python": ("Apus", "python"),
            // Python has these two as traits only.
            "engine-ports": ("IPController", "engine_ports"), "client-ports": ("IPController", "client_ports"),
        ],
        flags: [
            "log-to-file": [("IPController", "log_to_file", true)], "debug": [("IPController", "log_level", 10)],
            "quiet": [("IPController", "log_level", 50)], "init": [("IPController", "auto_create", true)],
            "usethreads": [("IPController", "use_threads", true)], "sqlitedb": [("IPController", "db_class", "sqlitedb")],
            "mongodb": [("IPController", "db_class", "mongodb")], "dictdb": [("IPController", "db_class", "dictdb")],
            "nodb": [("IPController", "db_class", "nodb")], "reuse": [("IPController", "reuse_files", true)],
            "restore": [("IPController", "restore_engines", true), ("IPController", "reuse_files", true)],
            "secure": [("Session", "keyfile", "")], "no-secure": [("Session", "key", ""), ("Session", "keyfile", "")],
            "clean-logs": [("IPController", "clean_logs", true)],
            // Python has no such setting.
            "fsync": [("SQLiteDB", "fsync", true)],
        ])
}
