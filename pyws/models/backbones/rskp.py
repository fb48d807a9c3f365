"""RSKP: representative snippets, found by EM and spread by a random walk (Huang et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyws.models.backbones.backbone import Activations, Backbone, Memory, VideoBatch, cross_entropy, tag_targets
from pyws.models.backbones.snippet_products import SnippetProducts
from pyws.models.devices import on_device

RSKP_CONSISTENCY = ((0, 1.0), (101, 0.5))
GAUFUSE_CONSISTENCY = ((0, 1.0), (101, 0.5), (201, 1.0))
_ITERATIONS = 2  # iterations of EM
_SCALE = 5.0  # scale of cosines in the softmax of EM
_STAY = 0.5  # w: the share of a snippet that the walk passes on


@dataclass(frozen=True)
class Walk:
    """A random walk's result in low-rank form: snippet t becomes ``(1 - w) (x_t + sum_r z_rt rows_r)``.

    The walk's (L, L) transition matrix has the rank of its R representatives, so that by Woodbury's identity neither it
    nor its inverse is ever formed; nor are the L new features: their products with anything follow from the products
    of ``rows``.
    """

    z: Tensor  #: (B, R, L), how snippets belong to the representatives; 0 at padding
    rows: Tensor  #: (B, R, D)
    norm: Tensor  #: (B, L), of x_t + sum_r z_rt rows_r


@dataclass(frozen=True)
class Branch:
    """The output of the head for one version of the features."""

    agnostic: Tensor  #: (B, K+1) log probabilities of the video pooled by the attention
    wise: Tensor  #: (B, K+1) log probabilities of the video pooled for each class apart
    attention: Tensor  #: (B, L), 0 at padding
    logits: Tensor  #: (B, L, K+1), 0 at padding


@dataclass(frozen=True)
class Representatives:
    """What a walk goes through: (B, R, D) rows, and (B, R) which of them a video has (None: all)."""

    rows: Tensor
    present: Tensor | None = None


class _Snippets:
    """(B, L, D) features. A product with them reads them all, so that what can share one pass does."""

    def __init__(self, features: Tensor, centres: Tensor, batch: VideoBatch) -> None:
        self.read = SnippetProducts(features, batch.mask)
        self.features, self.centres, self.batch = self.read.snippets, centres, batch
        (self.cosines,) = self.products(centres.expand(len(features), -1, -1))  # (B, K+2, L)
        self.norm = torch.linalg.vector_norm(self.features, dim=2)
        self.real = batch.mask.to(features.dtype)

    def products(self, *sets: Tensor) -> tuple[Tensor, ...]:
        """(B, R, D) each -> (B, R, L) each: dot products of rows and snippets."""
        return self.read.products(torch.cat(sets, 1)).split([rows.shape[1] for rows in sets], 1)

    def sums(self, *sets: Tensor) -> tuple[Tensor, ...]:
        """(B, R, L) each -> (B, R, D) each: weighted sums of snippets."""
        return self.read.sums(torch.cat(sets, 1)).split([weights.shape[1] for weights in sets], 1)

    def memberships(self, *sets: Representatives) -> list[tuple[Tensor, Tensor]]:
        """For each set (B, R, L): the softmax over representatives of every snippet, and that normalised over time."""
        found = []
        for chosen, products in zip(sets, self.products(*[_unit(chosen.rows) for chosen in sets]), strict=True):
            logits = _SCALE * products / (self.norm + 1e-9).unsqueeze(1)
            if chosen.present is not None:
                logits = logits.masked_fill(~chosen.present.unsqueeze(2), -torch.inf)
            z = logits.softmax(1) * self.real.unsqueeze(1)
            found.append((z, z / (z.sum(2, keepdim=True) + 1e-9)))
        return found


class RSKP(Backbone):
    """Each video's features are summed up by 8 representatives, which a random walk spreads back over the snippets.

    Three versions of the features share one head: as embedded, spread from the video's own representatives, and, in
    training after ``memory_epoch``, spread from a memory bank of the best representatives of the video's
    classes. A consistency loss draws the first towards the spread versions.

    Parameters
    ----------
    features, num_classes : as of :class:`Backbone`
    mix : share of the embedded version in the activation map, the spread one has the rest: RSKP 0.6; GauFuse 0.8 for
        pseudo labels and 0.85 at test. The attribute may be set between calls
    dropout : dropout of the embedding
    scale : scale of cosines in the head
    background : weight of the loss that expects background in every video
    consistency : (first epoch, weight) pairs of the consistency loss, rising; also ``GAUFUSE_CONSISTENCY``
    components, slots : representatives of a video, and those kept of a class
    memory_class_bug : as in the released GauFuse code, all reads and writes of the bank go to the first class
    memory_epoch : the bank is filled at the end of this epoch (from 0) and read in later ones; None: never

    Notes
    -----
    The bank is read as of the start of an optimiser step and updated at its end, videos in the order of their index:
    the same for any batching. (The released code updates it after each video.) It is part of the state dict.

    Examples
    --------
    >>> model = RSKP(features=16, num_classes=3).eval()
    >>> found = model(torch.rand(2, 10, 16), mask=torch.ones(2, 10, dtype=torch.bool))
    >>> found.tcam.shape, [columns.shape for _, columns in found.logits]  # pseudo labels train both versions
    (torch.Size([2, 10, 4]), [torch.Size([2, 10, 4]), torch.Size([2, 10, 4])])
    """

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
        memory_epoch: int | None = 100,
    ) -> None:
        super().__init__(features, num_classes)
        self.mix, self.dropout, self.scale, self.background = mix, dropout, scale, background
        self.consistency, self.memory_class_bug, self.memory_epoch = consistency, memory_class_bug, memory_epoch
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
        own = Representatives(self.represent(snippets))
        return self._activations(own.rows, *self.heads(snippets, *self.walks(snippets, own)))

    def backbone_loss(self, batch: VideoBatch, labels: Tensor, epoch: int) -> tuple[Activations, Tensor]:
        snippets = self.embed(batch)
        sets = [Representatives(self.represent(snippets))]
        if self.memory_epoch is not None and epoch > self.memory_epoch:
            sets.append(self._recall(batch.host_labels))
        branches = self.heads(snippets, *self.walks(snippets, *sets))
        plain, own, teacher = branches[0], branches[1], branches[1].logits
        if len(branches) == 3:
            teacher = 0.2 * branches[2].logits + 0.8 * own.logits
        without, with_background = tag_targets(labels, 0.0), tag_targets(labels, 1.0)
        loss = 0.1 * attention_contrast(plain.attention, batch)
        for weight, branch in zip((1.0, 1.0, 0.5), branches, strict=False):
            loss = loss + weight * cross_entropy(branch.agnostic, without)
            loss = loss + weight * self.background * cross_entropy(branch.wise, with_background)
        consistency = consistency_loss(plain.logits, teacher, batch)
        return self._activations(sets[0].rows, plain, own), loss + self.consistency_weight(epoch) * consistency

    def consistency_weight(self, epoch: int) -> float:
        """Weight of the consistency loss in an epoch, from 0."""
        return [weight for first, weight in self.consistency if first <= epoch][-1]

    def embed(self, batch: VideoBatch) -> _Snippets:
        rows = batch.embed(batch.pack(batch.features), self.embedding, self.dropout)
        centres = _unit(torch.cat([self.actions, self.foreground]))
        return _Snippets(batch.unpack(rows), centres, batch)

    def represent(self, snippets: _Snippets) -> Tensor:
        """(B, 8, D): means of the video's snippets by two rounds of EM, differentiated through."""
        rows = self.representatives.expand(len(snippets.features), -1, -1)
        for _ in range(_ITERATIONS):
            ((_, normalised),) = snippets.memberships(Representatives(rows))
            (rows,) = snippets.sums(normalised)
        return rows

    def walks(self, snippets: _Snippets, *sets: Representatives) -> list[Walk]:
        """Where random walks between the snippets and each set of representatives end.

        With Z the membership, Z' its rows normalised over time and Y the representatives, the features X become
        (1-w) (I - w^2 Z^T Z')^-1 (w Z^T Y + X) = (1-w) (X + Z^T (w Y + w^2 (I - w^2 Z' Z^T)^-1 Z' (w Z^T Y + X))).
        """
        memberships = snippets.memberships(*sets)
        sums = snippets.sums(*[normalised for _, normalised in memberships])
        moved = []
        for chosen, (z, normalised), spread in zip(sets, memberships, sums, strict=True):
            moves = normalised @ z.mT  # rows sum to 1 or less: I - w^2 moves is regular, whatever the features
            system = torch.eye(moves.shape[1], dtype=z.dtype, device=z.device) - _STAY**2 * moves
            returned = torch.linalg.solve_ex(system, spread + _STAY * (moves @ chosen.rows)).result
            moved.append(_STAY * chosen.rows + _STAY**2 * returned)
        walks = []
        for (z, _), rows, products in zip(memberships, moved, snippets.products(*moved), strict=True):
            square = snippets.norm.square() + (z * (2 * products + (rows @ rows.mT) @ z)).sum(1)
            walks.append(Walk(z, rows, square.clamp_min(1e-24).sqrt()))
        return walks

    def heads(self, snippets: _Snippets, *walks: Walk) -> list[Branch]:
        """Attention, logits and video probabilities of the features, then of what each walk makes of them."""
        real, logits, gates, weights = snippets.real.unsqueeze(1), [], [], []
        for walk in (None, *walks):
            cosine, norm = snippets.cosines, snippets.norm
            if walk is not None:
                cosine = (1 - _STAY) * (cosine + (snippets.centres @ walk.rows.mT) @ walk.z)
                norm = (1 - _STAY) * walk.norm
            logits.append(self.scale * cosine / (norm + 1e-9).unsqueeze(1) * real)
            gates.append(logits[-1].sigmoid() * real)
            weights.append(gates[-1] / (gates[-1].sum(2, keepdim=True) + 1e-5))
        pooled = list(snippets.sums(*weights))
        for i, walk in enumerate(walks, start=1):
            pooled[i] = (1 - _STAY) * (pooled[i] + (weights[i] @ walk.z.mT) @ walk.rows)
        actions = snippets.centres[:-1]
        branches = []
        for rows, columns, gate in zip(map(_unit, pooled), logits, gates, strict=True):
            agnostic, wise = rows[:, -1] @ actions.mT, (rows[:, :-1] * actions).sum(2)
            log_agnostic, log_wise = (self.scale * torch.stack([agnostic, wise])).log_softmax(2)
            branches.append(Branch(log_agnostic, log_wise, gate[:, -1], columns[:, :-1].mT))
        return branches

    def memories(self, activations: Activations, videos: Tensor, labels: Tensor) -> list[Memory]:
        assert activations.memory is not None
        rows, scores = activations.memory
        found = []
        for i, video in enumerate(videos.tolist()):
            classes = self._banks(labels[i])
            columns = torch.stack([scores[i, :, one] for one in classes], 1)
            found.append(Memory(video, tuple(classes), rows[i], columns))
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

    def _recall(self, labels: Tensor) -> Representatives:
        """The rows of each video's classes (B, K), on the host, in the bank."""
        banks = [self._banks(video) for video in labels]
        longest, slots = max(map(len, banks)), self.memory_scores.shape[1]
        chosen = torch.tensor([bank + [0] * (longest - len(bank)) for bank in banks])
        present = torch.arange(longest) < torch.tensor([[len(bank)] for bank in banks])
        here = self.memory_rows.device
        rows = self.memory_rows[on_device(chosen, here)].flatten(1, 2)
        return Representatives(rows, on_device(present.repeat_interleave(slots, 1), here))

    def _activations(self, rows: Tensor, plain: Branch, own: Branch) -> Activations:
        mixed = self.mix * plain.logits.softmax(2) + (1 - self.mix) * own.logits.softmax(2)
        scores = 0.6 * plain.agnostic.exp() + 0.4 * own.agnostic.exp()
        kept = rows.detach()
        memory = kept, (self.scale * _unit(kept) @ _unit(self.actions.detach()).mT).softmax(2)
        logits = ((0.8, plain.logits), (0.2, own.logits))
        tcam = mixed * plain.attention.unsqueeze(2)
        return Activations(scores[:, :-1], tcam, logits, scores[:, -1], plain.attention, memory)


def attention_contrast(attention: Tensor, batch: VideoBatch) -> Tensor:
    """(B,): mean of the lowest eighth of each video's attention minus that of its highest eighth."""
    lengths = batch.lengths.unsqueeze(1)
    count = (lengths // 8).clamp_min(1)
    rising = attention.masked_fill(~batch.mask, torch.inf).sort(1).values.masked_fill(~batch.mask, 0)
    place = torch.arange(attention.shape[1], device=attention.device)
    low, high = place < count, (place >= lengths - count) & (place < lengths)
    return ((rising * low).sum(1) - (rising * high).sum(1)) / count.squeeze(1)


def consistency_loss(student: Tensor, teacher: Tensor, batch: VideoBatch) -> Tensor:
    """(B, L, K+1) logits -> (B,): mean cross entropy of the student's classes against those of the teacher, both at
    temperature 0.2."""
    wanted = (teacher.detach() / 0.2).softmax(2)
    each = -(wanted * (student / 0.2).log_softmax(2)).sum(2)
    return batch.mean(each * batch.mask)


def _unit(rows: Tensor) -> Tensor:
    return rows / (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) + 1e-9)
