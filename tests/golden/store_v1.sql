-- A store as schema version 1 wrote it; never regenerate: later versions must go on reading it.
PRAGMA application_id = 1212957008;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE runs (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            id           TEXT NOT NULL UNIQUE,
            recipe_name  TEXT NOT NULL,
            digest       TEXT NOT NULL,
            seed         INTEGER NOT NULL,
            status       TEXT NOT NULL,
            accuracy     REAL,
            certified_s  REAL NOT NULL,
            device       TEXT NOT NULL,
            threads      INTEGER NOT NULL,
            backend      TEXT NOT NULL,
            timing_valid INTEGER NOT NULL,
            started_at   TEXT NOT NULL,
            document     TEXT NOT NULL
        );
INSERT INTO "runs" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','mnist/tiny','788b900b7fded1b20f6c7bb57c83cb036a71fa3db3d0211c772921cba610ac65',0,'done',0.991,15.0,'cpu',2,'eager',1,'2026-01-02T03:04:05.000000+00:00','{"recipe": {"format": 1, "name": "mnist/tiny", "data": {"name": "mnist"}, "feed": {"loading": "device", "shuffle": "every-epoch", "drop_last": false, "mean": [0.1307], "std": [0.3081]}, "augment": [{"name": "translate", "max_px": 2}, {"name": "cutout", "size": 3}], "model": {"name": "cnn", "hidden": 256, "kernels": [5, 3], "widths": [24, 32]}, "label_smoothing": 0.0, "optimizer": {"name": "adam", "betas": [0.7, 0.9], "eps": 1e-08, "lr": 0.01, "nesterov": false}, "schedule": {"name": "one_cycle", "peak_at": 0.3, "shape": "cos"}, "batch_size": 256, "epochs": 1.0, "stop_at": null, "evaluation": {"batch_size": 2000, "augmentation": {"name": "mirror", "views": 2}}, "engine": {"precision": "fp32", "memory_format": "contiguous", "compile": false}, "target": 0.99}, "seed": 0, "status": "done", "accuracy": 0.991, "epochs_run": 1.0, "steps": 235, "phases": {"load": 0.5, "warmup": 2.0, "prepare": 1.875, "train": 7.5, "evaluate": 5.625, "log": 0.25}, "device": "cpu", "backend": "eager", "environment": {"hotlap": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "platform": "Linux", "cpu": "Example CPU", "cores": 4, "threads": 2, "memory_gb": 8.0, "gpu": null, "commit": null, "load_average": 0.25}, "timing_valid": true, "data_digest": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "accuracy_by_epoch": [[1.0, 0.991]], "loss_by_epoch": [0.125], "error": null, "contention": null, "timing_rules": 1, "started_at": "2026-01-02T03:04:05+00:00", "id": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "digest": "788b900b7fded1b20f6c7bb57c83cb036a71fa3db3d0211c772921cba610ac65", "certified_s": 15.0}');
INSERT INTO "runs" VALUES(2,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','mnist/tiny','788b900b7fded1b20f6c7bb57c83cb036a71fa3db3d0211c772921cba610ac65',1,'failed',NULL,15.0,'cpu',2,'eager',1,'2026-01-02T03:05:05.000000+00:00','{"recipe": {"format": 1, "name": "mnist/tiny", "data": {"name": "mnist"}, "feed": {"loading": "device", "shuffle": "every-epoch", "drop_last": false, "mean": [0.1307], "std": [0.3081]}, "augment": [{"name": "translate", "max_px": 2}, {"name": "cutout", "size": 3}], "model": {"name": "cnn", "hidden": 256, "kernels": [5, 3], "widths": [24, 32]}, "label_smoothing": 0.0, "optimizer": {"name": "adam", "betas": [0.7, 0.9], "eps": 1e-08, "lr": 0.01, "nesterov": false}, "schedule": {"name": "one_cycle", "peak_at": 0.3, "shape": "cos"}, "batch_size": 256, "epochs": 1.0, "stop_at": null, "evaluation": {"batch_size": 2000, "augmentation": {"name": "mirror", "views": 2}}, "engine": {"precision": "fp32", "memory_format": "contiguous", "compile": false}, "target": 0.99}, "seed": 1, "status": "failed", "accuracy": null, "epochs_run": 1.0, "steps": 235, "phases": {"load": 0.5, "warmup": 2.0, "prepare": 1.875, "train": 7.5, "evaluate": 5.625, "log": 0.25}, "device": "cpu", "backend": "eager", "environment": {"hotlap": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "platform": "Linux", "cpu": "Example CPU", "cores": 4, "threads": 2, "memory_gb": 8.0, "gpu": null, "commit": null, "load_average": 0.25}, "timing_valid": true, "data_digest": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "accuracy_by_epoch": [], "loss_by_epoch": [2.5, null], "error": "the loss became nan at step 17", "contention": null, "timing_rules": 1, "started_at": "2026-01-02T03:05:05+00:00", "id": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "digest": "788b900b7fded1b20f6c7bb57c83cb036a71fa3db3d0211c772921cba610ac65", "certified_s": 15.0}');
CREATE INDEX runs_digest ON runs (digest, device, threads, backend, seed);
CREATE INDEX runs_recipe ON runs (recipe_name, started_at);
CREATE INDEX runs_started ON runs (started_at, seq);
CREATE TRIGGER runs_no_update BEFORE UPDATE ON runs
        BEGIN SELECT RAISE(ABORT, 'the run store is append-only'); END;
CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs
        BEGIN SELECT RAISE(ABORT, 'the run store is append-only'); END;
CREATE TRIGGER runs_no_replace BEFORE INSERT ON runs
        WHEN EXISTS (SELECT 1 FROM runs WHERE id = NEW.id OR seq = NEW.seq)
        BEGIN SELECT RAISE(ABORT, 'this run is already stored'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',2);
COMMIT;
