"""RSKP: representative snippets, found by EM and spread by a random walk (Huang et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyws.models.backbone import Activations, Backbone, Memory, Recipe, VideoBatch, cross_entropy, tag_targets

RSKP_CONSISTENCY = ((0, 1.0), (101, 0.5))
GAUFUSE_CONSISTENCY = ((0, 1.0), (101, 0.5), (201, 1.0))
_ITERATIONS, _SHARPNESS, _STAY = 2, 5.0, 0.5  # of EM, of its softmax, and how much a snippet passes on in the walk


@dataclass(frozen=True)
class Walk:
    """A random walk's result in low-rank form: snippet t becomes ``(1 - w) (x_t + sum_r z_rt rows_r)``.

    The walk's (L, L) transition matrix has the rank of its R representatives, so that by Woodbury's identity neither it
    nor its inverse is ever formed; nor are the L new features, whose products with anything follow from the rows'.
    """

    z: Tensor  #: (B, R, L), how snippets belong to the representatives; 0 at padding
    rows: Tensor  #: (B, R, D)


@dataclass(frozen=True)
class Branch:
    """What the head says of one version of the features."""

    agnostic: Tensor  #: (B, K+1) log probabilities of the video pooled by the attention
    wise: Tensor  #: (B, K+1) log probabilities of the video pooled for each class apart
    attention: Tensor  #: (B, L), 0 at padding
    logits: Tensor  #: (B, L, K+1), 0 at padding


class _Snippets:
    """(B, L, D) features and what every use of them needs."""

    def __init__(self, features: Tensor, batch: VideoBatch) -> None:
        self.features, self.batch = features, batch
        self.norm = torch.linalg.vector_norm(features, dim=2)
        self.real = batch.mask.to(features.dtype)

    def membership(self, rows: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, R, D) representatives -> (B, R, L) softmax over them for each snippet, and that normalised over time."""
        cosine = _unit(rows) @ self.features.mT / (self.norm + 1e-9).unsqueeze(1)
        logits = _SHARPNESS * cosine
        if present is not None:
            logits = logits.masked_fill(~present.unsqueeze(2), -torch.inf)
        z = logits.softmax(1) * self.real.unsqueeze(1)
        return z, z / (z.sum(2, keepdim=True) + 1e-9)


class RSKP(Backbone):
    """Each video's features are summed up by 8 representatives, which a random walk spreads back over the snippets.

    Three versions of the features share one head: as embedded, spread from the video's own representatives, and, in
    training after ``recipe.memory_epoch``, spread from a memory bank of the best representatives of the video's
    classes. The spread versions teach the first.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    mix : share of the embedded version in the activation map, the rest is the spread one's: RSKP 0.6; GauFuse 0.8 for
        pseudo labels and 0.85 at test. The attribute may be set between calls
    dropout : of the embedding
    scale : of cosines in the head
    background : weight of the loss that expects background in every video
    consistency : (first epoch, weight) pairs of the teaching loss, rising; also ``GAUFUSE_CONSISTENCY``
    components, slots : representatives of a video, and those kept of a class
    memory_class_bug : as in the released GauFuse code, all reads and writes of the bank go to the first class

    Notes
    -----
    The bank is read as of the start of an optimiser step and updated at its end, videos in the order of their index:
    the same for any batching. (The released code updates it after each video.) It is part of the state dict.
    """

    recipe = Recipe(
        lr=5e-5, betas=(0.9, 0.99), weight_decay=5e-4, batch=10, epochs=200, memory_epoch=100, class_threshold=0.1,
        thresholds=tuple(round(0.001 + 0.002 * i, 3) for i in range(20)), min_length=2, overlap="own",
    )  # fmt: skip

    def __init__(
        self,
        features: int,
        num_classes: int,
        mix: float = 0.6,
        dropout: float = 0.6,
        scale: float = 20.0,
        background: float = 0.2,
        consistency: tuple[tuple[int, float], ...] = RSKP_CONSISTENCY,
        components: int = 8,
        slots: int = 5,
        memory_class_bug: bool = False,
    ) -> None:
        super().__init__(features, num_classes)
        self.mix, self.dropout, self.scale, self.background = mix, dropout, scale, background
        self.consistency, self.memory_class_bug = consistency, memory_class_bug
        self.embedding = nn.Linear(features, features)
        self.representatives = nn.Parameter(torch.empty(components, features))
        self.actions = nn.Parameter(torch.empty(num_classes + 1, features))
        self.foreground = nn.Parameter(torch.empty(1, features))
        self.register_buffer("memory_rows", torch.zeros(num_classes, slots, features))
        self.register_buffer("memory_scores", torch.zeros(num_classes, slots))
        self.memory_rows: Tensor
        self.memory_scores: Tensor
        for weight in (self.embedding.weight, self.representatives, self.actions):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.embedding.bias)
        with torch.no_grad():
            self.foreground.copy_(-self.actions[-1:])

    def activate(self, batch: VideoBatch) -> Activations:
        snippets = self.embed(batch)
        rows = self.represent(snippets)
        return self._activations(rows, self.head(snippets), self.head(snippets, self.walk(snippets, rows)))

    def host_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        snippets = self.embed(batch)
        rows = self.represent(snippets)
        plain, own = self.head(snippets), self.head(snippets, self.walk(snippets, rows))
        weighted, teacher = [(1.0, plain), (1.0, own)], own.logits
        if self.recipe.memory_epoch is not None and epoch > self.recipe.memory_epoch:
            recalled = self.head(snippets, self.walk(snippets, *self._recall(labels)))
            weighted.append((0.5, recalled))
            teacher = 0.2 * recalled.logits + 0.8 * plain.logits
        without, with_background = tag_targets(labels, 0.0), tag_targets(labels, 1.0)
        loss = 0.1 * attention_contrast(plain.attention, batch)
        for weight, branch in weighted:
            loss = loss + weight * cross_entropy(branch.agnostic, without)
            loss = loss + weight * self.background * cross_entropy(branch.wise, with_background)
        taught = teaching(plain.logits, teacher, batch)
        return self._activations(rows, plain, own), loss + self.consistency_weight(epoch) * taught

    def consistency_weight(self, epoch: int) -> float:
        """Weight of the teaching loss in an epoch, from 0."""
        return [weight for first, weight in self.consistency if first <= epoch][-1]

    def embed(self, batch: VideoBatch) -> _Snippets:
        rows = self.embedding(batch.pack(batch.features)).relu_()
        return _Snippets(batch.unpack(batch.dropout(rows, self.dropout)), batch)

    def represent(self, snippets: _Snippets) -> Tensor:
        """(B, 8, D): means of the video's snippets by two rounds of EM, differentiated through."""
        rows = self.representatives.expand(len(snippets.features), -1, -1)
        for _ in range(_ITERATIONS):
            rows = snippets.membership(rows)[1] @ snippets.features
        return rows

    def walk(self, snippets: _Snippets, rows: Tensor, present: Tensor | None = None) -> Walk:
        """Where a random walk between snippets and (B, R, D) representatives ends; ``present`` (B, R) marks real ones.

        With Z the membership and Z' its rows normalised over time, the features X become
        (1-w) (I - w^2 Z^T Z')^-1 (w Z^T Y + X) = (1-w) (X + Z^T (w Y + w^2 (I - w^2 Z' Z^T)^-1 Z' (w Z^T Y + X))).
        """
        z, normalised = snippets.membership(rows, present)
        moves = normalised @ z.mT  # rows sum to 1 or less: I - w^2 moves is regular, whatever the features
        spread = normalised @ snippets.features + _STAY * (moves @ rows)
        system = torch.eye(moves.shape[1], dtype=z.dtype, device=z.device) - _STAY**2 * moves
        returned = torch.linalg.solve_ex(system, spread).result
        return Walk(z, _STAY * rows + _STAY**2 * returned)

    def head(self, snippets: _Snippets, walk: Walk | None = None) -> Branch:
        """Attention, logits and video probabilities of the features, or of what a walk makes of them."""
        features, real = snippets.features, snippets.real.unsqueeze(1)
        centres = _unit(torch.cat([self.actions, self.foreground]))
        cosine = centres @ features.mT  # (B, K+2, L)
        norm, share = snippets.norm, 1.0
        if walk is not None:
            share = 1 - _STAY
            cosine = cosine + (centres @ walk.rows.mT) @ walk.z
            norm = _moved_norm(snippets, walk)
        cosine = share * cosine / (share * norm + 1e-9).unsqueeze(1)
        logits = self.scale * cosine * real
        gates = logits.sigmoid() * real
        weights = gates / (gates.sum(2, keepdim=True) + 1e-5)
        pooled = weights @ features
        if walk is not None:
            pooled = share * (pooled + (weights @ walk.z.mT) @ walk.rows)
        pooled = _unit(pooled)
        wise, agnostic = pooled[:, :-1], pooled[:, -1]
        return Branch(
            (self.scale * agnostic @ centres[:-1].mT).log_softmax(1),
            (self.scale * (wise * centres[:-1]).sum(2)).log_softmax(1),
            gates[:, -1],
            logits[:, :-1].mT,
        )

    def memories(self, activations: Activations, videos: Tensor, labels: Tensor) -> list[Memory]:
        assert activations.memory is not None
        rows, scores = activations.memory
        found = []
        for i, video in enumerate(videos.tolist()):
            classes = self._banks(labels[i])
            found.append(Memory(video, tuple(classes), rows[i], scores[i][:, classes]))
        return found

    @torch.no_grad()
    def remember(self, memories: list[Memory]) -> None:
        slots = self.memory_scores.shape[1]
        for memory in sorted(memories, key=lambda memory: memory.video):
            for bank, new in zip(memory.classes, memory.scores.mT.to(self.memory_scores), strict=True):
                scores = torch.cat([self.memory_scores[bank], new])
                rows = torch.cat([self.memory_rows[bank], memory.rows.to(self.memory_rows)])
                scores, order = scores.sort(descending=True, stable=True)
                self.memory_scores[bank] = scores[:slots]
                self.memory_rows[bank] = rows[order[:slots]]

    def forget(self) -> None:
        self.memory_rows.zero_()
        self.memory_scores.zero_()

    def _banks(self, labels: Tensor) -> list[int]:
        classes = labels.nonzero().squeeze(1).tolist()
        return [0] * len(classes) if self.memory_class_bug else classes

    def _recall(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, D) rows of each video's classes in the bank, and (B, R) where a video has so many."""
        banks = [self._banks(video) for video in labels]
        most, slots = max(map(len, banks)), self.memory_scores.shape[1]
        chosen = torch.tensor([bank + [0] * (most - len(bank)) for bank in banks], device=labels.device)
        counts = torch.tensor([len(bank) for bank in banks], device=labels.device)
        present = torch.arange(most, device=labels.device) < counts.unsqueeze(1)
        return self.memory_rows[chosen].flatten(1, 2), present.repeat_interleave(slots, 1)

    def _activations(self, rows: Tensor, plain: Branch, own: Branch) -> Activations:
        mixed = self.mix * plain.logits.softmax(2) + (1 - self.mix) * own.logits.softmax(2)
        scores = 0.6 * plain.agnostic.exp() + 0.4 * own.agnostic.exp()
        kept = rows.detach()
        memory = kept, (self.scale * _unit(kept) @ _unit(self.actions.detach()).mT).softmax(2)
        logits = ((0.8, plain.logits), (0.2, own.logits))
        return Activations(scores[:, :-1], mixed * plain.attention.unsqueeze(2), logits, memory)


def attention_contrast(attention: Tensor, batch: VideoBatch) -> Tensor:
    """(B,): mean of the lowest eighth of each video's attention minus that of its highest eighth."""
    lengths = batch.lengths.unsqueeze(1)
    count = (lengths // 8).clamp_min(1)
    rising = attention.masked_fill(~batch.mask, torch.inf).sort(1).values.masked_fill(~batch.mask, 0)
    place = torch.arange(attention.shape[1], device=attention.device)
    low, high = place < count, (place >= lengths - count) & (place < lengths)
    return ((rising * low).sum(1) - (rising * high).sum(1)) / count.squeeze(1)


def teaching(student: Tensor, teacher: Tensor, batch: VideoBatch) -> Tensor:
    """(B, L, K+1) logits -> (B,): mean cross entropy of the student's sharpened classes against the teacher's."""
    wanted = (teacher.detach() / 0.2).softmax(2)
    each = -(wanted * (student / 0.2).log_softmax(2)).sum(2)
    return batch.mean(each * batch.mask)


def _moved_norm(snippets: _Snippets, walk: Walk) -> Tensor:
    """(B, L) norms of x_t + sum_r z_rt rows_r, from products of rows alone."""
    cross = walk.rows @ snippets.features.mT
    square = snippets.norm.square() + (walk.z * (2 * cross + (walk.rows @ walk.rows.mT) @ walk.z)).sum(1)
    return square.clamp_min(1e-24).sqrt()


def _unit(rows: Tensor) -> Tensor:
    return rows / (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) + 1e-9)
