"""The team of threads by itself: first used by several threads at once, then in forked children."""

import platform
import shlex
import subprocess
import sysconfig
from pathlib import Path

import pytest

import dnncore

PROGRAM = r"""
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "_team.h"
static int waiting;
static void tile(void *job, int worker, uint64_t tile) { (void)job; (void)worker; (void)tile; }
static uint64_t next(void *job) { return --*(int *)job > 0 ? 8 : 0; }
static void *train(void *unused) {
    int phases = 20;
    (void)unused;
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) < 4) {}
    dnn_run_phases(3, 8, tile, next, &phases, NULL);
    return NULL;
}
int main(void) {
    int i, k, status;
    for (i = 0; i < 500; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t threads[4];
            alarm(20); /* ends a child that hangs */
            for (k = 0; k < 4; k++) pthread_create(&threads[k], NULL, train, NULL);
            for (k = 0; k < 4; k++) pthread_join(threads[k], NULL);
            _exit(0);
        }
        waitpid(child, &status, 0);
        if (status) { printf("child %d ended with %d\n", i, status); return 1; }
    }
    return 0;
}
"""


needs_threads = pytest.mark.skipif(
    platform.system() == "Windows", reason="the team needs POSIX threads"
)


def build(source, program, *flags):
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = Path(dnncore.__file__).parent
    command = [*compiler, "-O1", "-pthread", *flags, f"-I{include}", source, "-o", program, "-lm"]
    subprocess.run(command, check=True)


@needs_threads
def test_several_threads_may_be_the_first(tmp_path):
    source, program = tmp_path / "team.c", tmp_path / "team"
    source.write_text(PROGRAM)
    build(source, program)
    done = subprocess.run([program], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout


@needs_threads
@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ([], (1, 10, 300, 4)),
        ([], (2, 10, 300, 2)),
        (["-DNO_DELAYS"], (3, 1, 140_000, 3)),  # more phases than their number can count
    ],
    ids=["4 threads", "2 threads", "many phases"],
)
def test_order_of_phases_under_stress(tmp_path, flags, arguments):
    program = tmp_path / "stress"
    build(Path(__file__).with_name("team_stress.c"), program, *flags)
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout
