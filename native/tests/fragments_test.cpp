// The index maps of the tensor-core screens (fragments.hpp) against the layouts of the PTX manual, written down here as it has
// them: the fragments of mma.m16n8k16 and of wgmma.m64nNk16, ldmatrix, the matrix descriptor and the figure of the 128-byte swizzle.
#include "fragments.hpp"

#include <set>

#include "test.hpp"

using sae::cuda::Element;

namespace {

constexpr bool operator==(Element a, Element b) { return a.row == b.row && a.column == b.column; }

// Counts who holds what, and says where that is not one for each element.
class Held {
 public:
  Held(const char* name, int rows, int columns) : name_(name), columns_(columns), count_(rows * columns) {}
  void hold(Element e) {
    const int rows = static_cast<int>(count_.size()) / columns_;
    const bool is_inside = e.row >= 0 && e.row < rows && e.column >= 0 && e.column < columns_;
    CHECK(is_inside, "%s has no element %d, %d", name_, e.row, e.column);
    if (is_inside) ++count_[e.row * columns_ + e.column];
  }
  ~Held() {
    for (int i = 0; i < static_cast<int>(count_.size()); ++i) {
      CHECK(count_[i] == 1, "%s: element %d, %d is held %d times", name_, i / columns_, i % columns_, count_[i]);
    }
  }

 private:
  const char* name_;
  int columns_;
  std::vector<int> count_;
};

// The figure of a tile in shared memory under the swizzle of 128 bytes: which 16 bytes of a row lie where, by row mod 8.
constexpr int kSwizzle[8][8] = {
    {0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5}, {3, 2, 1, 0, 7, 6, 5, 4},
    {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2}, {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0}};

}  // namespace

TEST(fragments_of_mma_are_the_manuals) {
  Held a("A", 16, 16), b("B", 16, 8), c("C", 16, 8);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane % 4;
    for (int i = 0; i < 8; ++i) {  // a0 .. a7
      const Element manual = {i < 2 || (i >= 4 && i < 6) ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
      const Element first = sae::cuda::a_element(lane, i / 2);
      CHECK((manual == Element{first.row, first.column + i % 2}), "a%d of lane %d", i, lane);
      a.hold({first.row, first.column + i % 2});
    }
    for (int i = 0; i < 4; ++i) {  // b0 .. b3 and c0 .. c3
      const Element manual_b = {in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
      const Element first = sae::cuda::b_element(lane, i / 2);
      CHECK((manual_b == Element{first.row + i % 2, first.column}), "b%d of lane %d", i, lane);
      b.hold({first.row + i % 2, first.column});
      const Element manual_c = {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
      CHECK(manual_c == sae::cuda::c_element(lane, i), "c%d of lane %d", i, lane);
      c.hold(sae::cuda::c_element(lane, i));
    }
  }
}

// Matrix i has its row r where lane 8 i + r says; register i of a lane gets row lane / 4 and two columns of it.
TEST(ldmatrix_loads_the_fragments_of_mma) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Element a_row = sae::cuda::a_address(8 * i + lane / 4), b_row = sae::cuda::b_address(8 * i + lane / 4);
      const Element a = sae::cuda::a_element(lane, i), b = sae::cuda::b_element(lane, i % 2);
      CHECK((a == Element{a_row.row, a_row.column + lane % 4 * 2}), "A, register %d of lane %d", i, lane);
      CHECK((b == Element{b_row.column + lane % 4 * 2, b_row.row - i / 2 * 8}), "B, register %d of lane %d", i, lane);
    }
  }
}

// Eight lanes read at a time, 16 bytes each: without a conflict each of the 32 banks once.
TEST(ldmatrix_has_no_bank_conflicts) {
  for (const auto address : {sae::cuda::a_address, sae::cuda::b_address}) {
    for (int k = 0; k < 64; k += 16) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::set<int> banks;
        for (int lane = 8 * matrix; lane < 8 * matrix + 8; ++lane) {
          const int offset = sae::cuda::tile_offset(48 + address(lane).row, k + address(lane).column);
          CHECK(offset % 16 == 0, "lane %d addresses %d", lane, offset);
          for (int word = 0; word < 4; ++word) banks.insert(offset / 4 % 32 + word);
        }
        CHECK(banks.size() == 32, "k %d, matrix %d: %zu banks", k, matrix, banks.size());
      }
    }
  }
}

TEST(a_tile_is_swizzled_as_in_the_manuals_figure) {
  std::set<int> offsets;
  for (int row = 0; row < 256; ++row) {
    for (int k = 0; k < 64; ++k) {
      const int offset = sae::cuda::tile_offset(row, k);
      offsets.insert(offset);
      CHECK(offset / 128 == row && offset % 16 / 2 == k % 8, "row %d, k %d lies at %d", row, k, offset);
      CHECK(kSwizzle[row % 8][offset % 128 / 16] == k / 8, "row %d, k %d lies at %d", row, k, offset);
    }
  }
  CHECK(offsets.size() == 256 * 64, "only %zu places", offsets.size());
}

TEST(fragments_of_wgmma_are_the_manuals) {
  Held d("D", 64, 256);
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < 128; ++i) {  // d0 .. d127
      const Element manual = {16 * (thread / 32) + thread % 32 / 4 + i / 2 % 2 * 8, i / 4 * 8 + thread % 4 * 2 + i % 2};
      const Element ours = sae::cuda::d_element(thread, i / 4, i % 4);
      CHECK(ours == manual, "d%d of thread %d is %d, %d", i, thread, ours.row, ours.column);
      d.hold(ours);
    }
  }
  // What the manual's figure shows.
  const struct {
    int thread, i;
    Element at;
  } figure[] = {{0, 0, {0, 0}},   {0, 1, {0, 1}},   {1, 0, {0, 2}},    {3, 1, {0, 7}},     {4, 0, {1, 0}},      {31, 1, {7, 7}},
                {0, 2, {8, 0}},   {31, 3, {15, 7}}, {0, 4, {0, 8}},    {0, 6, {8, 8}},     {32, 0, {16, 0}},    {63, 3, {31, 7}},
                {64, 0, {32, 0}}, {96, 0, {48, 0}}, {127, 3, {63, 7}}, {0, 124, {0, 248}}, {127, 127, {63, 255}}};
  for (const auto& shown : figure) {
    CHECK(sae::cuda::d_element(shown.thread, shown.i / 4, shown.i % 4) == shown.at, "d%d of thread %d", shown.i, shown.thread);
  }
}

// The operand [rows, 16 k] that a descriptor names: a row's line is 128 bytes, eight lines a group, groups a stride apart, and
// bits 4 .. 6 of an address are permuted by bits 7 .. 9. It must be the tile, wherever that begins and whichever 16 k of it are meant.
TEST(a_matrix_descriptor_names_the_tile) {
  for (const uint32_t tile : {0u, 1024u, 0x4400u, 0x37c00u}) {
    for (int first_k = 0; first_k < 64; first_k += 16) {
      const uint64_t descriptor = sae::cuda::matrix_descriptor(tile + 2 * first_k);
      const uint32_t start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
      CHECK(start == tile + 2 * first_k, "start %x", start);
      CHECK((descriptor >> 16 & 0x3fff) == 1 && stride == 1024, "leading and stride of %llx", (unsigned long long)descriptor);
      CHECK((descriptor >> 62) == 1, "the swizzle is not that of 128 bytes");
      CHECK((descriptor >> 49 & 7) == 0, "a base offset, for a tile aligned to 1024 bytes");
      CHECK((descriptor & 0x3fffc000c000c000) == 0, "bits that mean nothing are set");
      for (int row = 0; row < 256; ++row) {
        for (int k = 0; k < 16; ++k) {
          const uint32_t address = start + row / 8 * stride + row % 8 * 128 + 2 * k;
          const uint32_t read = address ^ (address >> 7 & 7) << 4;
          CHECK(read == tile + sae::cuda::tile_offset(row, first_k + k), "row %d, k %d is read at %u", row, first_k + k, read);
        }
      }
    }
  }
}
