// From Python to the launchers: dictionaries become structs of parameters (common/params.h).
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <type_traits>
#include <vector>

#include "common/params.h"

namespace pyws {
namespace bindings {

namespace py = pybind11;

// The objects that stand for the element types in Python, in the order of DType; torch's, but nothing here knows torch.
inline std::array<PyObject*, kDTypes> known_dtypes{};

inline void set_dtypes(const std::vector<py::object>& dtypes) {
  if (dtypes.size() != kDTypes) throw std::invalid_argument("set_dtypes: one object for each of `dtypes` is needed");
  for (int k = 0; k < kDTypes; ++k) known_dtypes[k] = py::object(dtypes[k]).release().ptr();
}

// A value under way to a field, and how to complain of it.
struct Source {
  const std::string& op;
  PyObject *name, *value;

  [[noreturn]] void refuse(const std::string& wanted, const std::string& got) const {
    throw py::type_error(op + ": " + std::string(py::str(name)) + " must be " + wanted + ", got " + got);
  }
  // What a failed conversion left behind, if it did.
  void check_error() const {
    if (PyErr_Occurred()) throw py::error_already_set();
  }
};

inline PyObject* interned(const char* name) { return PyUnicode_InternFromString(name); }

inline DType dtype_of(const Source& from) {
  static PyObject* const attribute = interned("dtype");
  const auto dtype = py::reinterpret_steal<py::object>(PyObject_GetAttr(from.value, attribute));
  from.check_error();
  for (int k = 0; k < kDTypes; ++k)
    if (dtype.ptr() == known_dtypes[k]) return static_cast<DType>(k);
  from.refuse("a tensor of a type that is known", std::string(py::str(dtype)));
}

inline void* address_of(const Source& from) {
  static PyObject* const method = interned("data_ptr");
  const auto address = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(from.value, method));
  void* const pointer = address ? PyLong_AsVoidPtr(address.ptr()) : nullptr;
  from.check_error();
  return pointer;
}

template <class T>
void read(const Source& from, T** field) {
  using Element = std::remove_const_t<T>;
  static_assert(std::is_arithmetic_v<Element>, "an Array is what has elements of any type");
  const DType dtype = dtype_of(from), wanted = kDTypeOf<Element>;
  if (dtype != wanted && !(std::is_same_v<Element, std::uint8_t> && dtype == kBool))
    from.refuse(dtype_name(wanted), dtype_name(dtype));
  *field = static_cast<T*>(address_of(from));
}

template <class T>
void read(const Source& from, Optional<T>* field) {
  if (from.value == Py_None)
    field->data = nullptr;
  else
    read(from, &field->data);
}

template <class Void>
void read(const Source& from, Array<Void>* field) {
  *field = {address_of(from), dtype_of(from)};
}

inline void read(const Source& from, double* field) {
  *field = PyFloat_AsDouble(from.value);
  if (*field == -1.0) from.check_error();
}

inline void read(const Source& from, bool* field) {
  if (!PyBool_Check(from.value)) from.refuse("a bool", Py_TYPE(from.value)->tp_name);
  *field = from.value == Py_True;
}

inline void read(const Source& from, std::int64_t* field) {
  *field = PyLong_AsLongLong(from.value);
  if (*field == -1) from.check_error();
}

template <std::size_t kSize>
void read(const Source& from, std::array<std::int64_t, kSize>* field) {
  if (!PyTuple_Check(from.value) || PyTuple_GET_SIZE(from.value) != kSize)
    from.refuse("a tuple of " + std::to_string(kSize) + " integers", py::repr(from.value));
  for (std::size_t k = 0; k < kSize; ++k)
    read({from.op, from.name, PyTuple_GET_ITEM(from.value, static_cast<Py_ssize_t>(k))}, field->data() + k);
}

template <class Enum, class = decltype(Names<Enum>::all)>
void read(const Source& from, Enum* field) {
  for (int k = 0; PyUnicode_Check(from.value) && k < static_cast<int>(std::size(Names<Enum>::all)); ++k) {
    if (PyUnicode_CompareWithASCIIString(from.value, Names<Enum>::all[k]) != 0) continue;
    *field = static_cast<Enum>(k);
    return;
  }
  std::string choices;
  for (const char* name : Names<Enum>::all) choices += (choices.empty() ? "'" : " or '") + std::string(name) + "'";
  from.refuse(choices, py::repr(from.value));
}

// Fills the fields from a dictionary that has them all and nothing else.
template <class Params>
class Reader {
 public:
  explicit Reader(std::string op) : op_(std::move(op)) {
    const std::string list = Params::field_names();
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 2) {
      end = list.find(", ", begin);
      names_.push_back(interned(list.substr(begin, end - begin).c_str()));
    }
  }

  Params operator()(const py::dict& fields) const {
    Params params{};
    if (fields.size() != names_.size())
      throw py::type_error(op_ + ": takes " + Params::field_names() + "; got " +
                           std::string(py::str(py::list(fields))));
    std::size_t k = 0;
    std::apply([&](auto&... field) { (take(fields, names_[k++], &field), ...); }, params.fields());
    return params;
  }

 private:
  template <class Field>
  void take(const py::dict& fields, PyObject* name, Field* field) const {
    PyObject* const value = PyDict_GetItemWithError(fields.ptr(), name);  // borrowed
    if (value == nullptr) throw py::type_error(op_ + ": " + std::string(py::str(name)) + " is missing");
    read({op_, name, value}, field);
  }

  std::string op_;
  std::vector<PyObject*> names_;  // interned, and kept for good
};

// The last argument is the number of threads, or a CUDA stream (an integer, too). The GIL is released.
template <class Result, class Params, class Last>
void bind(py::module_& module, const char* op, const char* suffix, Result (*function)(const Params&, Last)) {
  module.def((std::string(op) + suffix).c_str(),
             [function, reader = Reader<Params>(op)](const py::dict& fields, std::intptr_t last) {
               const Params params = reader(fields);
               py::gil_scoped_release released;
               if constexpr (std::is_pointer_v<Last>)
                 return function(params, reinterpret_cast<Last>(last));
               else
                 return function(params, static_cast<Last>(last));
             });
}

template <class Enum>
py::tuple names_of() {
  py::list names;
  for (const char* name : Names<Enum>::all) names.append(name);
  return py::tuple(names);
}

}  // namespace bindings
}  // namespace pyws
