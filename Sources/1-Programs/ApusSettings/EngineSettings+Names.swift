import ApusWire

extension EngineSettings {
    /// The short names of an engine's settings, those of `ipengine` and ours.
    static let names = TraitArguments.Vocabulary(
        aliases: [
            "file": ("IPEngine", "url_file"), "c": ("IPEngine", "startup_command"), "s": ("IPEngine", "startup_script"),
            "url": ("IPEngine", "registration_url"), "ssh": ("IPEngine", "sshserver"), "sshkey": ("IPEngine", "sshkey"),
            "location": ("IPEngine", "location"), "timeout": ("IPEngine", "timeout"), "log-level": ("IPEngine", "log_level"),
            "profile": ("IPEngine", "profile"), "profile-dir": ("ProfileDir", "location"),
            "ipython-dir": ("IPEngine", "ipython_dir"),
            "config": ("IPEngine", "extra_config_file"), "work-dir": ("IPEngine", "work_dir"), "log-url": ("IPEngine", "log_url"),
            "cluster-id": ("IPEngine", "cluster_id"), "ident": ("Session", "session"), "user": ("Session", "username"),
            "keyfile": ("Session", "keyfile"),
            // Python has none of these settings.
            "max-message-size": ("IPEngine", "max_message_size"), "python": ("Apus", "python"),
            "resources": ("Apus", "resources"),
            "on-crash": ("Apus", "on_crash"),
        ],
        flags: [
            "mpi": [("IPEngine", "use_mpi", true)], "debug": [("IPEngine", "log_level", 10)],
            "quiet": [("IPEngine", "log_level", 50)],
            "log-to-file": [("IPEngine", "log_to_file", true)], "clean-logs": [("IPEngine", "clean_logs", true)],
            "init": [("IPEngine", "auto_create", true)], "secure": [("Session", "keyfile", "")],
            "no-secure": [("Session", "key", "")],
            "no-python": [("Apus", "no_python", true)], "plain": [("Apus", "plain", true)],
        ])

    /// The text of `apus engine --help`.
    package static let help = """
        OVERVIEW: Run an engine alone, in the foreground.

        Joins the controller of the profile's engine connection file, waiting up to ten seconds for the file. It runs Python in a process
        of its own, with IPython where that is installed, and the Swift functions that this program holds.

        USAGE: apus engine [options] [--Class.trait=value ...]

        Which controller:
          --file <path>           The engine connection file itself.
          --profile <name>        The profile's name.
          --profile-dir <path>    The profile's folder, instead of its name.
          --cluster-id <id>       Which of the profile's clusters.
          --location <host>       Where the controller is, in place of what the file says.
          --timeout <seconds>     How long the controller may take to answer.

        What it runs:
          --python <path>         The interpreter: unless told, the active environment's, else python3 on the path.
          --no-python             Run Swift functions only.
          --plain                 Do without IPython even where it is installed.
          --on-crash <what>       When Python dies: 'restart' it in the same place, or 'exit' with it.
          --c <code>              Code to run before the first request.
          --s <path>              A script to run before the first request.
          --mpi                   Start MPI in Python, and ask for the rank as the engine's id.

        Itself:
          --resources <list>      What it owns that tasks may ask for: gpu=1,memory=64.
          --ident <name>          The engine's name on the wire, new at every start.
          --max-message-size <n>  The largest message taken, in bytes: unless told, half of the memory.
          --work-dir <path>       The folder to work in.
          --log-level <level>     DEBUG, INFO, WARNING, ERROR, or Python's number.
          --log-to-file           Log to the profile's log folder.
          --debug, --quiet        Log everything; log almost nothing.
        """
}
