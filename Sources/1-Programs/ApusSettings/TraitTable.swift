/// Which of ipyparallel's settings concern a controller.
enum TraitTable {
    /// Names under which the controller itself is configured: its class, those it inherits from, and what older releases called it.
    static let controllerClasses: Set<String> = [
        "IPController", "BaseParallelApplication", "BaseIPythonApplication", "SingletonConfigurable", "Application",
        "IPControllerApp",
        "HubFactory", "Hub",
    ]

    static func knows(_ className: String) -> Bool {
        Self.controllerClasses.contains(className)
            || ["HeartMonitor", "TaskScheduler", "DictDB", "SQLiteDB", "NoDB", "Session", "ProfileDir"].contains(className)
    }

    /// Settings of how Python does something, which have no meaning here. They are ignored without a warning.
    private static let silent: [String: Set<String>] = [
        "controller": [
            "profile", "ipython_dir", "extra_config_file", "auto_create", "use_threads", "monitor_ip", "log_format",
            "log_datefmt",
            "logging_config", "copy_config_files", "overwrite", "verbose_crash", "add_ipython_dir_to_sys_path", "show_config",
            "show_config_json", "curve_publickey", "curve_secretkey",
        ],
        "HeartMonitor": ["debug"],
        "DictDB": ["cull_fraction"],
        "SQLiteDB": ["table"],
        "Session": [
            "debug", "check_pid", "buffer_threshold", "copy_threshold", "item_threshold", "metadata", "digest_history_size",
        ],
    ]

    static func hasNoMeaningHere(_ assignment: TraitAssignment) -> Bool {
        let owner = Self.controllerClasses.contains(assignment.className) ? "controller" : assignment.className
        return Self.silent[owner]?.contains(assignment.trait) ?? false
    }
}
