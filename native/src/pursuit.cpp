#include "pursuit.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "error.hpp"
#include "sums.hpp"

namespace sae {
namespace {

// An atom with no larger cosine with the residual is not taken: the residual is rounded to float32 before atoms are chosen, so
// this is where their order becomes a matter of rounding. It also keeps the pivots of OMP's fit above 2^-32.
constexpr double kUncorrelated = 0x1p-16;
// Of normalised atoms: below, a fit would be noise.
constexpr double kSmallestPivot = 0x1p-40;
// Relative to ||v||: where double arithmetic ends.
constexpr double kRounding = 1e-12;
// Relative to ||v||^2 / 2, the value of the l1 objective at a = 0.
constexpr double kDualityGap = 1e-6;
// What the state of the rows that are pursued together may take; fewer rows make the products slower.
constexpr int64_t kBlockBytes = int64_t{16} << 20;
constexpr int64_t kMostRows = 1024;

// <a, b> of float32 or double in double, in eight independent sums so that any compiler may vectorise without changing a bit.
template <typename A, typename B>
double dot(const A* a, const B* b, int64_t d) {
  constexpr int kLanes = 8;
  double sum[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
  }
  for (; i < d; ++i) sum[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

void add_multiple(double factor, const float* row, int64_t d, double* sum) {
  for (int64_t i = 0; i < d; ++i) sum[i] += factor * static_cast<double>(row[i]);
}

// The lower triangle of a symmetric matrix, or of its Cholesky factor: row i has i + 1 elements.
using Triangle = std::vector<std::vector<double>>;

double element(const Triangle& m, size_t i, size_t j) { return i >= j ? m[i][j] : m[j][i]; }

// One more row of L, L L^T = G, from G's row; the pivot, that is the square of the new diagonal element.
double extend_cholesky(const std::vector<double>& gram_row, Triangle& l) {
  std::vector<double> row;
  double pivot = gram_row.back();
  for (size_t j = 0; j + 1 < gram_row.size(); ++j) {
    double sum = gram_row[j];
    for (size_t k = 0; k < j; ++k) sum -= row[k] * l[j][k];
    row.push_back(sum / l[j][j]);
    pivot -= row[j] * row[j];
  }
  row.push_back(pivot > 0 ? std::sqrt(pivot) : 0);
  l.push_back(std::move(row));
  return pivot;
}

// Solves L L^T x = b in place.
void solve_cholesky(const Triangle& l, std::vector<double>& b) {
  for (size_t i = 0; i < b.size(); ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= l[i][k] * b[k];
    b[i] /= l[i][i];
  }
  for (size_t i = b.size(); i-- > 0;) {
    for (size_t k = i + 1; k < b.size(); ++k) b[i] -= l[k][i] * b[k];
    b[i] /= l[i][i];
  }
}

// The pursuit of one row: the sequential solver of every backend. Atoms are normalised in the small problem (coefficient z of
// d_j / ||d_j||, so a = z / ||d_j||), which keeps it well scaled whatever the rows' lengths.
class Row {
 public:
  Row(const Weights& weights, const Pursuit& how, const float* v, double norm)
      : weights_(weights), how_(how), v_(v), d_(weights.d_out), norm_v_(norm), residual_(v, v + weights.d_out), norm_(norm) {
    if (norm == 0) stop_ = SAE_STOP_RESIDUAL;
  }

  bool running() const { return stop_ == SAE_STOP_NONE; }
  sae_stop stop() const { return stop_; }

  // r times a power of two that brings it near 1, so that rounding it to float32 loses nothing to denormals.
  void write_residual(float* out) {
    exponent_ = std::ilogb(norm_);
    const double factor = std::ldexp(1.0, -std::clamp(exponent_, -1000, 1000));
    for (int64_t i = 0; i < d_; ++i) out[i] = static_cast<float>(residual_[i] * factor);
  }

  // A step with the atom that is best correlated with the residual; -1 if none is. correlation: <r, d_j> / ||d_j||, scaled as r.
  void step(int32_t atom, float correlation) {
    const double size = std::fabs(static_cast<double>(correlation)) * std::ldexp(1.0, std::clamp(exponent_, -1000, 1000));
    if (how_.method == SAE_METHOD_L1 && steps_ == 0) lambda_ = how_.penalty * size;
    if (atom < 0 || size <= kUncorrelated * norm_) return end(SAE_STOP_EXHAUSTED);
    if (how_.method == SAE_METHOD_L1 && duality_gap(size) <= kDualityGap * norm_v_ * norm_v_ / 2) return end(SAE_STOP_CONVERGED);
    if (steps_ == how_.atoms) return end(SAE_STOP_ATOMS);

    const std::vector<double> a = z_;
    const size_t atoms = atoms_.size();
    const double squared = norm_ * norm_;
    const size_t place = find_or_add(atom);
    if (how_.method == SAE_METHOD_OMP || how_.method == SAE_METHOD_L1) {
      if (place < atoms) return end(SAE_STOP_EXHAUSTED);  // a fitted atom is best: what is left is rounding
      if (!fit(place, correlation < 0 ? -1 : 1)) {
        forget(a);
        return end(SAE_STOP_EXHAUSTED);
      }
    } else if (how_.method == SAE_METHOD_GRADIENT) {
      gradient_step(place);
    } else {
      z_[place] += dot(residual_.data(), row(place), d_) / norms_[place];
      if (how_.non_negative) z_[place] = std::max(z_[place], 0.0);
    }
    ++steps_;
    compute_residual();
    if (how_.method == SAE_METHOD_OMP) refine();
    if (how_.method != SAE_METHOD_L1 && how_.gain > 0 && squared - norm_ * norm_ < how_.gain * norm_v_ * norm_v_) {
      forget(a);
      compute_residual();
      return end(SAE_STOP_GAIN);
    }
    if (how_.method == SAE_METHOD_L1) return;  // one more look at the correlations tells its gap
    if (norm_ <= std::max(how_.residual, kRounding) * norm_v_) return end(SAE_STOP_RESIDUAL);
    if (steps_ == how_.atoms) return end(SAE_STOP_ATOMS);
  }

  void append_to(sae_codes& codes) const {
    std::vector<size_t> order(atoms_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return atoms_[i] < atoms_[j]; });
    std::vector<int32_t> indices;
    std::vector<float> values;
    for (const size_t i : order) {
      const auto value = static_cast<float>(z_[i] / norms_[i]);
      if (!std::isfinite(value)) {
        fail(SAE_INVALID_ARGUMENT, "the coefficient of feature %d overflows float32: got %g", atoms_[i], z_[i] / norms_[i]);
      }
      if (value == 0) continue;
      indices.push_back(atoms_[i]);
      values.push_back(value);
    }
    codes.append_row(indices.data(), values.data(), static_cast<int64_t>(indices.size()));
    codes.append_stop(stop_);
  }

 private:
  const float* row(size_t i) const { return weights_.w_dec + atoms_[i] * d_; }
  void end(sae_stop stop) { stop_ = stop; }

  // The place of an atom; a new one gets coefficient 0.
  size_t find_or_add(int32_t atom) {
    const size_t place = static_cast<size_t>(std::find(atoms_.begin(), atoms_.end(), atom) - atoms_.begin());
    if (place == atoms_.size()) {
      atoms_.push_back(atom);
      norms_.push_back(std::sqrt(dot(row(place), row(place), d_)));
      z_.push_back(0);
    }
    return place;
  }

  // Back to the coefficients before a step, and to the atoms that were there: the last thing before the row ends.
  void forget(const std::vector<double>& z) {
    z_ = z;
    atoms_.resize(z.size());
    norms_.resize(z.size());
  }

  // r = v - sum a_j d_j, in the order in which the atoms came.
  void compute_residual() {
    std::copy(v_, v_ + d_, residual_.begin());
    for (size_t i = 0; i < atoms_.size(); ++i) {
      if (z_[i] != 0) add_multiple(-z_[i] / norms_[i], row(i), d_, residual_.data());
    }
    norm_ = std::sqrt(dot(residual_.data(), residual_.data(), d_));
  }

  // The exact minimum over the atoms chosen so far, the new one included. False if it says nothing new.
  bool fit(size_t place, int sign) {
    gram_.emplace_back();
    for (size_t j = 0; j <= place; ++j) {
      gram_[place].push_back(j == place ? 1 : dot(row(place), row(j), d_) / (norms_[place] * norms_[j]));
    }
    b_.push_back(dot(v_, row(place), d_) / norms_[place]);
    signs_.push_back(0);
    if (how_.method == SAE_METHOD_L1 || how_.non_negative) return fit_signed(place, sign);
    if (!enter(place, sign)) return false;
    z_ = optimum();
    return true;
  }

  // The minimum of |v - sum z u|^2 / 2 + lambda sum |z| by an active set: non-negative least squares (Lawson & Hanson 1974) where
  // lambda is 0, feature-sign search (Lee et al. 2006) where it is not. Within one choice of signs the problem is a linear
  // system; a step towards its solution ends where a coefficient would change its sign, and that atom leaves. False if the new
  // atom can't enter.
  bool fit_signed(size_t entering, int sign) {
    const size_t count = z_.size();
    if (!enter_or_exchange(entering, sign)) return false;
    std::vector<bool> refused(count, false);  // their violation was rounding
    for (size_t round = 0; round < 10 * count + 10; ++round) {
      const std::vector<double> before = z_;
      const size_t blocking = approach_optimum();
      if (blocking < active_.size()) {
        refused[active_[blocking]] = before[active_[blocking]] == 0;  // it entered, and could not move
        leave(blocking);
        continue;
      }
      const size_t violated = most_violated(refused);
      if (violated == count) break;
      if (!enter_or_exchange(violated, slope(violated) < 0 ? -1 : 1)) refused[violated] = true;
    }
    return true;
  }

  // Lets an atom take part, on a side: a new last row of the active atoms' factor. False if it depends on them.
  bool enter(size_t i, int sign) {
    std::vector<double> gram_row = gram_with_active(i);
    gram_row.push_back(1);
    if (!(extend_cholesky(gram_row, cholesky_) >= kSmallestPivot)) {
      cholesky_.pop_back();
      return false;
    }
    active_.push_back(i);
    signs_[i] = sign;
    return true;
  }

  // Takes an atom out; the rows of the factor behind it are made anew. Their pivots only grow.
  void leave(size_t place) {
    const std::vector<size_t> behind(active_.begin() + static_cast<int64_t>(place) + 1, active_.end());
    z_[active_[place]] = 0;
    signs_[active_[place]] = 0;
    active_.resize(place);
    cholesky_.resize(place);
    for (const size_t i : behind) {
      if (!enter(i, signs_[i])) z_[i] = signs_[i] = 0;
    }
  }

  // As enter. Under a penalty an atom that depends on the active ones may replace one of them at less cost, although the residual
  // stays the same: with u_i = sum w_k u_k, z_i grows by t and z_k shrinks by t w_k until the first of them is 0 and leaves.
  bool enter_or_exchange(size_t i, int sign) {
    if (enter(i, sign)) return true;
    if (lambda_ == 0) return false;
    std::vector<double> w = gram_with_active(i);
    solve_cholesky(cholesky_, w);
    size_t first = active_.size();
    double t = 0;
    for (size_t k = 0; k < active_.size(); ++k) {
      if (!(w[k] * sign * signs_[active_[k]] > 0)) continue;
      const double to_zero = std::fabs(z_[active_[k]] / w[k]);
      if (first < active_.size() && to_zero >= t) continue;
      t = to_zero;
      first = k;
    }
    if (first == active_.size()) return false;
    for (size_t k = 0; k < active_.size(); ++k) z_[active_[k]] -= t * sign * w[k];
    leave(first);
    if (!enter(i, sign)) return false;
    z_[i] = t * sign;
    return true;
  }

  std::vector<double> gram_with_active(size_t i) const {
    std::vector<double> g;
    for (const size_t j : active_) g.push_back(element(gram_, i, j));
    return g;
  }

  // Where the active atoms would be best, whatever the signs that gives.
  std::vector<double> optimum() const {
    std::vector<double> solution;
    for (const size_t i : active_) solution.push_back(b_[i] - lambda_ * signs_[i]);
    solve_cholesky(cholesky_, solution);
    return solution;
  }

  // Goes there as far as the signs allow. The place of the active atom that is first to become 0, or how many there are.
  size_t approach_optimum() {
    const std::vector<double> solution = optimum();
    const size_t active = active_.size();
    double part = 1;
    size_t blocking = active;
    for (size_t k = 0; k < active; ++k) {
      const double z = z_[active_[k]];
      if (solution[k] * signs_[active_[k]] > 0) continue;
      const double to_zero = z == 0 ? 0 : z / (z - solution[k]);
      if (blocking < active && to_zero >= part) continue;
      part = to_zero;
      blocking = k;
    }
    for (size_t k = 0; k < active; ++k) {
      double& z = z_[active_[k]];
      z = blocking < active ? z + part * (solution[k] - z) : solution[k];
    }
    return blocking;
  }

  // <r, u_i> of the small problem.
  double slope(size_t i) const {
    double sum = b_[i];
    for (const size_t j : active_) sum -= element(gram_, i, j) * z_[j];
    return sum;
  }

  // Which inactive atom would lower the objective most; count if none.
  size_t most_violated(const std::vector<bool>& refused) const {
    size_t violated = z_.size();
    double most = lambda_ + kRounding * norm_v_;
    for (size_t i = 0; i < z_.size(); ++i) {
      if (signs_[i] != 0 || refused[i]) continue;
      const double value = how_.non_negative ? slope(i) : std::fabs(slope(i));
      if (value > most) {
        most = value;
        violated = i;
      }
    }
    return violated;
  }

  // One step of iterative refinement: the residual becomes orthogonal to the fitted atoms to the last bits of double.
  void refine() {
    std::vector<double> change;
    for (const size_t i : active_) change.push_back(dot(residual_.data(), row(i), d_) / norms_[i]);
    solve_cholesky(cholesky_, change);
    for (size_t k = 0; k < active_.size(); ++k) {
      if (how_.non_negative && !(z_[active_[k]] + change[k] > 0)) return;
    }
    for (size_t k = 0; k < active_.size(); ++k) z_[active_[k]] += change[k];
    compute_residual();
  }

  // a += (<c, r> / <c, c>) g with g_j = <r, d_j> and c = sum g_j d_j over the atoms chosen so far (non-negative: those in use).
  void gradient_step(size_t place) {
    std::vector<double> g(z_.size(), 0), c(static_cast<size_t>(d_), 0);
    for (size_t i = 0; i < z_.size(); ++i) {
      if (how_.non_negative && z_[i] == 0 && i != place) continue;
      g[i] = dot(residual_.data(), row(i), d_);
      add_multiple(g[i], row(i), d_, c.data());
    }
    const double length = dot(c.data(), c.data(), d_);
    if (!(length > 0)) return;
    const double rate = dot(c.data(), residual_.data(), d_) / length;
    for (size_t i = 0; i < z_.size(); ++i) {
      z_[i] += rate * g[i] * norms_[i];
      if (how_.non_negative) z_[i] = std::max(z_[i], 0.0);
    }
  }

  // Of the l1 problem, whose dual is max |v|^2 / 2 - |v - y|^2 / 2 over |<y, u_j>| <= lambda; y = r, shrunk into that set.
  double duality_gap(double largest_correlation) const {
    double l1 = 0, shrunk_distance = 0;
    for (const double z : z_) l1 += std::fabs(z);
    const double shrink = std::min(1.0, lambda_ / largest_correlation);
    for (int64_t i = 0; i < d_; ++i) {
      const double difference = v_[i] - shrink * residual_[i];
      shrunk_distance += difference * difference;
    }
    return norm_ * norm_ / 2 + lambda_ * l1 - (norm_v_ * norm_v_ - shrunk_distance) / 2;
  }

  const Weights& weights_;
  const Pursuit& how_;
  const float* v_;
  const int64_t d_;
  const double norm_v_;
  std::vector<double> residual_;
  double norm_;  // of the residual
  int exponent_ = 0;
  double lambda_ = 0;
  int64_t steps_ = 0;
  sae_stop stop_ = SAE_STOP_NONE;
  std::vector<int32_t> atoms_;  // in the order in which they were chosen
  std::vector<double> norms_;   // ||d_j||
  std::vector<double> z_;       // coefficients of the normalised atoms
  std::vector<double> b_;       // <v, u_j>
  Triangle gram_;               // <u_i, u_j>
  std::vector<int> signs_;      // the side on which an atom takes part in the fit; 0 if it does not
  std::vector<size_t> active_;  // the atoms that do, in the order in which they came
  Triangle cholesky_;           // the factor of their part of gram_
};

double checked_norm(const float* v, int64_t d, int64_t row) {
  const double length = norm(v, d);
  if (!std::isfinite(length)) {
    const int64_t i = std::find_if(v, v + d, [](float value) { return !std::isfinite(value); }) - v;
    fail(SAE_INVALID_ARGUMENT, "v must be finite, got %g at row %lld, column %lld", v[i], static_cast<long long>(row),
         static_cast<long long>(i));
  }
  return length;
}

}  // namespace

// 1. Round the residuals of the rows that still run. 2. Choose an atom for each, all in one pass over the dictionary. 3. Let each
// row's solver take its step, rows on all threads.
void pursue(const sae_model& model, ThreadPool& pool, const float* v, int64_t n, const Pursuit& how, sae_codes& codes) {
  const int64_t d = model.weights.d_out;
  const double atoms = static_cast<double>(std::min({how.atoms, d, model.weights.d_sae}));
  const double row_bytes = 16.0 * static_cast<double>(d) + 8 * atoms * (atoms + 4);
  const auto most_rows = static_cast<int64_t>(std::clamp(kBlockBytes / row_bytes, 1.0, static_cast<double>(kMostRows)));
  sae_codes chosen;
  std::vector<float> residuals;
  for (int64_t first = 0; first < n; first += most_rows) {
    std::vector<Row> rows;
    for (int64_t r = first; r < std::min(n, first + most_rows); ++r) {
      rows.emplace_back(model.weights, how, v + r * d, checked_norm(v + r * d, d, r));
    }
    for (;;) {
      std::vector<Row*> running;
      for (Row& row : rows) {
        if (row.running()) running.push_back(&row);
      }
      if (running.empty()) break;
      const auto count = static_cast<int64_t>(running.size());
      residuals.resize(static_cast<size_t>(count * d));
      pool.run(count, [&](int64_t i) { running[i]->write_residual(residuals.data() + i * d); });
      chosen.clear(model.weights.d_sae);
      model.project_top(residuals.data(), count, SAE_READOUT_DECODER, true, 1, how.non_negative, chosen);
      chosen.to_host();
      const int64_t* offsets = chosen.row_offsets();
      const int32_t* indices = chosen.indices();
      const float* values = chosen.values();
      pool.run(count, [&](int64_t i) {
        int32_t atom = -1;
        float correlation = 0;
        for (int64_t k = offsets[i]; k < offsets[i + 1]; ++k) {
          if (how.non_negative && values[k] < 0) continue;
          atom = indices[k];
          correlation = values[k];
        }
        running[i]->step(atom, correlation);
      });
    }
    for (const Row& row : rows) row.append_to(codes);
  }
}

}  // namespace sae
