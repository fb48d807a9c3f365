// The table of contents of what is compiled. The header of a family is its contract; here it only gets its Python name.
// The tests compile this file once more, against the emulator, as another module (tests/emulator).
#include "bindings.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "background_patches/background_patches.h"
#include "class_mean/class_mean.h"
#include "common/simd.h"
#include "fuse_segments/fuse_segments.h"
#include "gradcam3d/gradcam3d.h"
#include "linpro/linpro.h"
#include "match_segments/match_segments.h"
#include "otsu/otsu.h"
#include "otsu/otsu_masks.h"
#include "propose_segments/propose_segments.h"
#include "slic/slic.h"
#include "superpixel_confusion/superpixel_confusion.h"
#include "superpixel_select/drop_components.h"
#include "superpixel_select/superpixel_select.h"

namespace py = pybind11;

namespace {

std::vector<std::string> cpu_paths() {
  std::vector<std::string> names;
  for (pyws::CpuPath path : {pyws::CpuPath::kPortable, pyws::CpuPath::kAvx2, pyws::CpuPath::kAvx512})
    if (pyws::cpu_path_available(path)) names.emplace_back(pyws::cpu_path_name(path));
  return names;
}

}  // namespace

// The launchers of a struct of parameters: of the CPU kernel, and of the CUDA kernel where there is one.
#if defined(PYWS_WITH_CUDA)
#define PYWS_LAUNCHERS(name)                                     \
  pyws::bindings::bind(module, #name, "_cpu", pyws::name##_cpu); \
  pyws::bindings::bind(module, #name, "_cuda", pyws::name##_cuda)
#else
#define PYWS_LAUNCHERS(name) pyws::bindings::bind(module, #name, "_cpu", pyws::name##_cpu)
#endif

PYBIND11_MODULE(PYWS_MODULE, module) {
  using pyws::bindings::names_of;
  py::list dtypes;
  for (int dtype = 0; dtype < pyws::kDTypes; ++dtype) dtypes.append(pyws::dtype_name(dtype));
  module.attr("dtypes") = py::tuple(dtypes);
  module.def("set_dtypes", pyws::bindings::set_dtypes);

  PYWS_LAUNCHERS(gradcam3d);
  PYWS_LAUNCHERS(linpro);
  PYWS_LAUNCHERS(match_segments);
  PYWS_LAUNCHERS(otsu);
  PYWS_LAUNCHERS(otsu_masks);
  PYWS_LAUNCHERS(fuse_segments);
  PYWS_LAUNCHERS(suppress_segments);
  PYWS_LAUNCHERS(count_proposals);
  PYWS_LAUNCHERS(fill_proposals);
  PYWS_LAUNCHERS(snippet_classes);
  PYWS_LAUNCHERS(class_rows);
  PYWS_LAUNCHERS(class_mean);
  PYWS_LAUNCHERS(slic);
  PYWS_LAUNCHERS(superpixel_select);
  PYWS_LAUNCHERS(superpixel_vote);
  PYWS_LAUNCHERS(drop_components);
  PYWS_LAUNCHERS(superpixel_confusion);
  PYWS_LAUNCHERS(integral_image);
  PYWS_LAUNCHERS(count_patches);
  PYWS_LAUNCHERS(find_patches);

  // Sizes of scratch memory, in elements.
  module.def("fuse_segments_scratch", pyws::fuse_segments_scratch);
  module.def("gradcam3d_scratch", pyws::gradcam3d_scratch);
  module.def("linpro_scratch", pyws::linpro_scratch);
  module.def("linpro_warps", pyws::linpro_warps);
  module.def("match_segments_scratch", pyws::match_segments_scratch);
  module.def("propose_segments_runs", pyws::propose_segments_runs);
  module.def("propose_segments_scratch", pyws::propose_segments_scratch);
  module.def("slic_scratch", pyws::slic_scratch);
  module.def("snippet_classes_scratch", pyws::snippet_classes_scratch);
  module.def("snippet_classes_slots", pyws::class_slots);

  // What arguments may be, and what numbers of an answer mean.
  module.attr("OVERLAPS") = names_of<pyws::Overlap>();
  module.attr("DISTRIBUTIONS") = names_of<pyws::Distribution>();
  module.attr("ROW_GEOMETRIES") = names_of<pyws::RowGeometry>();
  module.attr("MASK_OVERLAPS") = names_of<pyws::MaskOverlap>();
  module.attr("LINPRO_WARP_MEMORY") = pyws::kWarpMemory;
  module.attr("MAX_MATCH_THRESHOLDS") = pyws::kMatchThresholds;
  module.attr("MAX_PROPOSAL_THRESHOLDS") = pyws::kMaxThresholds;
  module.attr("ALL_FINITE") = pyws::kAllFinite;
  module.attr("SLIC_LEVELS") = pyws::kSlicLevels;
  module.attr("SLIC_CUBE_STEPS") = pyws::kSlicCubeSteps;
  module.attr("SUMMARY_USED") = static_cast<int>(pyws::kUsed);
  module.attr("SUMMARY_OUTSIDE") = static_cast<int>(pyws::kOutside);
  module.attr("SUMMARY_UNKNOWN") = static_cast<int>(pyws::kUnknown);
  module.attr("SUMMARY_SIZE") = static_cast<int>(pyws::kSummary);
  module.attr("INVALID_KINDS") = static_cast<int>(pyws::kInvalidKinds);

  module.def("cpu_paths", cpu_paths);
  module.def("cpu_path", [] { return std::string(pyws::cpu_path_name(pyws::cpu_path())); });
  module.def("set_cpu_path", [](const std::string& name) { pyws::set_cpu_path(name.c_str()); });
  module.attr("compiler") = PYWS_COMPILER;
  module.attr("cuda") = PYWS_CUDA_VERSION;            // "" where built without CUDA
  module.attr("architectures") = PYWS_ARCHITECTURES;  // CUDA architectures, "80-real 90-real ..."
#if defined(_OPENMP)
  module.attr("openmp") = true;
#else
  module.attr("openmp") = false;
#endif
  if (const char* path = std::getenv("PYWS_CPU")) pyws::set_cpu_path(path);
}
