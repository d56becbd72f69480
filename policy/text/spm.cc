#include "spm.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <sentencepiece_processor.h>

// No C++ exception may pass into Go; the library itself reports by status.

extern "C" void *ddvla_spm_open(const char *model, size_t n, ddvla_spm_facts *facts, char *message, size_t room) {
    try {
        auto p = std::make_unique<sentencepiece::SentencePieceProcessor>();
        const auto status = p->LoadFromSerializedProto(absl::string_view(model, n));
        if (!status.ok()) {
            std::snprintf(message, room, "%s", status.ToString().c_str());
            return nullptr;
        }
        facts->pieces = p->GetPieceSize();
        facts->bos = p->bos_id();
        facts->eos = p->eos_id();
        facts->empty = p->PieceToId("\xe2\x96\x81");
        facts->is_unknown = p->IsUnknown(facts->empty);
        return p.release();
    } catch (const std::exception &e) {
        std::snprintf(message, room, "%s", e.what());
        return nullptr;
    }
}

extern "C" void ddvla_spm_close(void *processor) {
    delete static_cast<sentencepiece::SentencePieceProcessor *>(processor);
}

extern "C" int64_t ddvla_spm_encode(const void *processor, const char *text, size_t n, int32_t *ids, size_t room,
                                    char *message, size_t message_room) {
    try {
        std::vector<int> out;
        const auto status = static_cast<const sentencepiece::SentencePieceProcessor *>(processor)->Encode(absl::string_view(text, n), &out);
        if (!status.ok()) {
            std::snprintf(message, message_room, "%s", status.ToString().c_str());
            return -1;
        }
        std::copy_n(out.begin(), std::min(out.size(), room), ids);
        return static_cast<int64_t>(out.size());
    } catch (const std::exception &e) {
        std::snprintf(message, message_room, "%s", e.what());
        return -1;
    }
}

extern "C" int64_t ddvla_spm_piece(const void *processor, int32_t id, char *text, size_t room) {
    try {
        const auto *p = static_cast<const sentencepiece::SentencePieceProcessor *>(processor);
        if (id < 0 || id >= p->GetPieceSize()) return -1;
        const std::string &piece = p->IdToPiece(id);
        if (piece.size() + 1 > room) return -1;
        std::copy_n(piece.c_str(), piece.size() + 1, text);
        return static_cast<int64_t>(piece.size());
    } catch (const std::exception &) {
        return -1;
    }
}
