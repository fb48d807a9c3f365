"""Drives CMakeLists.txt, the only list of sources and flags. Environment: PYWS_CUDA=auto|on|off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # One folder whatever pip makes, a wheel or an editable install: objects whose sources did not change stay.
        work = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        # As cmake --fresh, which removes the objects too: what an earlier, isolated build environment left in the cache
        # points to folders that are gone.
        (work / "CMakeCache.txt").unlink(missing_ok=True)
        for found in work.glob("CMakeFiles/[0-9]*"):
            shutil.rmtree(found)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(work), "-G", "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DPYWS_CUDA={os.environ.get('PYWS_CUDA', 'auto')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(work)], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(next(work.glob("_C*.so")), target)


setup(ext_modules=[Extension("pyws._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
