"""What a run trains on: where its batches come from, and how it is judged. One task a file, and a line in `TASKS`.

Next to read: `task.py` for what a task is, `language_model.py` for the one that most runs have.
"""

from collections.abc import Mapping

from glassformer.training.tasks.images import ImageClassification
from glassformer.training.tasks.language_model import LanguageModel
from glassformer.training.tasks.sorting import Sorting
from glassformer.training.tasks.speech import SpeechRecognition
from glassformer.training.tasks.task import TaskClass
from glassformer.training.tasks.translation import Translation
from glassformer.training.tasks.word_vectors import WordEmbedding

TASKS: Mapping[str, TaskClass] = {  # the first of a kind of model is what it is trained for unless told otherwise
    "language-model": LanguageModel,
    "sort": Sorting,
    "translation": Translation,
    "image-classification": ImageClassification,
    "speech-recognition": SpeechRecognition,
    "word-vectors": WordEmbedding,
}
