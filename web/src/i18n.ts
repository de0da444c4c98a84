/**
 * Every word of the page, in English and in Chinese. A key that one of them lacks does not compile.
 *
 * The Chinese glossary: token 词元, embedding 嵌入, attention 注意力, head 注意力头, query/key/value 查询/键/值, residual
 * stream 残差流, layer norm 层归一化, logits 未归一化得分（logits）, sampling 采样, temperature 温度.
 */

const en = {
  // loading and trouble
  opening: "Opening the model…", loading_step: "Loading the numbers…", computing: "Computing…",
  context_lost: "The browser took the graphics away. The picture comes back by itself.",
  no_webgl: "This browser has no WebGL2, so there is no picture. Outline, inspector and walkthrough work without it.",
  close: "Close",
  needs_server: "This page is a recording. To type your own text and change numbers, run: glassformer view",
  needs_tokenizer:
    "This model has no tokenizer. Begin with token ids: glassformer view MODEL --tokens 1,2,3",
  // header
  parameters: "{n} parameters", random_weights: "random weights",
  random_why: "These weights are not trained: what it says has no meaning.", shapes_only: "shapes only",
  shapes_only_why: "No number is loaded: hatched blocks show how large it is.",
  shapes_only_cell: "No number is loaded, only its shape.", settings: "Settings", language: "Language",
  light_theme: "Light theme", dark_theme: "Dark theme", help: "Help", go_to: "Go to",
  skip_to_scene: "Skip to the scene",
  // walkthrough
  walkthrough: "Walkthrough", contents: "Contents", hide_panel: "Hide this panel", progress: "{n} of {of} steps seen",
  no_chapters: "No chapter fits this model; look around freely.", go_to_step: "Go to step {n}", play: "Play",
  pause: "Pause", next: "Next", back: "Back", begin_walk: "Begin the walk", press_space_before: "Press",
  space_key: "Space", press_space_after: "to play or pause",
  scale_picture: "Four models side by side, at one cell size", zoom_to: "From GPT-3 to {name}",
  layers_of: "{n} layers of {width}", scale_hatched: "Hatched: true shapes, no numbers.",
  // scene
  scene: "Scene", scene_label: "{name} in three dimensions",
  scene_help:
    "Arrow keys go from number to number, Enter explains one. All keys are under the question mark.",
  text_enters: "The text goes in here", view: "View", whole_model: "Whole model", closer: "Closer",
  further: "Further away", turn_left: "Turn left", turn_right: "Turn right", legend: "Colours", largest: "largest",
  scale_title: "Full colour is the block's 99.5th percentile", positive: "positive",
  negative: "negative", masked: "masked", role_weight: "learned weight", role_computed: "computed",
  role_statistic: "statistic", role_input: "input", role_gradient: "gradient", role_constant: "fixed",
  click_to_pin: "Click to take it apart", take_apart: "Take it apart", and_more_terms: "… and {n} more terms",
  all_others: "all {n} others: {sum}",
  // inspector
  inspector: "Inspector", outline: "Outline", panels: "Panels", raise_sheet: "Raise the sheet",
  lower_sheet: "Lower the sheet", trail: "The way back to the token", trail_back: "Back", trail_forward: "Forward",
  unpin: "Unpin", kind_weight: "learned", kind_buffer: "fixed", kind_input: "input", kind_constant: "constant",
  kind_computed: "computed", kind_gradient: "gradient", same_number_as: "The same number as",
  check_passed: "Recomputed here: it is the model's number.",
  check_failed: "Recomputed here: it differs from what is recorded.", spoken_passed: "Recomputed, it agrees.",
  spoken_failed: "Recomputed, it does not agree.", terms: "{n} terms, the largest first", one_term: "One term",
  terms_caption: "Operands and their product", operands: "Operands", term: "Term", show_all: "Show all {n}",
  show_fewer: "Show fewer", largest_of: "The largest {shown} of {n}.", comes_from: "Comes from",
  and_more: "… and {n} more", arrived_at_token: "From outside: here the way back ends.",
  arrived_at_weight: "This was learned: here the way back ends.", computed_by: "Computed by this line",
  code_label: "{file}, line {line}", in_module: "in", copy_numpy: "Copy as NumPy", copy_latex: "Copy as LaTeX",
  copied: "Copied", show_block: "Show the block", unfold_steps: "Unfold its steps ({n})",
  fold_steps: "Fold the steps", change_number: "What if this number were another?", set_zero: "Set to zero",
  run_again: "Run again", before_change: "Before the change:",
  changed_blocks: "{n} of {of} blocks differ from run {run}: they are lit.", back_to_run: "Back to run {run}",
  training: "Learning", training_step: "step {n} of {of}", training_ended: "The training has ended", loss: "loss",
  show_weights: "Weights", show_gradients: "Gradients", follow_training: "follow", loss_curve: "The loss fell from {n} to {to}",
  what_next: "What the model expects", after_text: "After the whole text, the model expects:",
  after_token: "After “{token}” at position {n}, the model expects:", what_attended: "What attention looks at",
  choose_head: "Choose a head to see which tokens it reads from.", compared: "Compared", look_inside: "Look inside",
  hint_point: "Point at any number to see how it was computed; click to take it apart.",
  hint_shapes: "Only the shape is known: zoom in to see how large it is.",
  hint_move: "Drag to move, scroll to zoom, right-drag to turn.", hint_keys: "Everything has a key:",
  // attention
  layer: "Layer", head: "Head", no_head: "none", no_attention: "This layer has no attention weights to show.",
  attention_of: "Attention weights, layer {layer}, head {head}", is_masked: "Masked: it lies in the future",
  // playground
  playground: "Playground", open_playground: "Try it", close_playground: "Fold",
  tokens_read: "The tokens that the model reads", token_title: "Position {n}, token id {id}",
  predicted: "The most likely", steps: "Recorded steps", step_back: "One token back",
  step_forward: "One token on", history: "History", step_of: "Step {n} of {of}", next_token: "Next token",
  your_text: "Your own text", run: "Run", pieces: "Pieces of the text", tokens_counted: "{n} tokens",
  text_that_runs: "The text that the model reads; choose a piece of it:",
  how_made: "How “{piece}” becomes tokens", bytes: "bytes", begin: "first", merge_n: "merge {n}", ids: "ids",
  cut_n: "piece {n}", rank: "rank {n}", rank_head: "rank", score: "score {n}", merge_tree: "The merges of “{piece}” as a tree",
  merge_told: "Merge {n} of {of}: {left} + {right} → {joined}, rank {rank}", merge_none: "Before the first merge",
  merge_back: "One merge back", merge_on: "One merge on", whole_token: "The vocabulary has it as a whole.",
  by_merges: "Of all neighbours, the two of the least rank are merged, until no neighbours have a rank.",
  by_longest: "From the left, each time the longest piece that the vocabulary has.",
  by_path: "Of all ways to cut it, the one whose scores, logarithms of probabilities, have the greatest sum.",
  by_look_up: "This tokenizer looks its tokens up as a whole: nothing is merged.",
  run_shown: "Run", compare_with: "Compare with", no_run: "nothing", temperature: "Temperature", all: "all",
  seed: "Seed", reset_sampling: "Back to what the model says", probabilities: "Probabilities",
  no_logits: "No prediction is recorded here.", other_tokens: "the other {n}",
  see_logit: "Id {id}: see where its logit comes from",
  // go to, help
  go_to_example: "layer 0 head 1 q[2,5]", found: "Found", nothing_found: "Nothing of that name.",
  keyboard: "Keyboard", mouse: "Mouse", touch: "Touch", bookmarks: "Keys 1 to 9", the_check: "The check mark",
  mouse_help:
    "Drag to move, right-drag or Shift-drag to turn, scroll to zoom. Point at a number to see it, click to pin " +
    "it, double-click to bring its block close.",
  touch_help:
    "One finger moves, two fingers zoom and turn. Tap a number to see it, tap it again or press long to pin it.",
  the_check_help:
    "The page computes every number again from its operands. ✓ means that the result is the recorded number, " +
    "within what rounding allows; Δ is how far apart they are.",
  key_space: "play or pause the walkthrough", key_tab: "from region to region", key_arrows: "from cell to cell",
  key_shift_arrows: "to the edge of the block", key_enter: "pin the cell", key_s: "through the cells it came from",
  key_esc: "take back the last", key_brackets: "operation before or after", key_page: "layer above or below",
  key_h: "next or previous head", key_steps: "step back or on", key_n: "next token", key_t: "temperature",
  key_f: "fit what is pointed at", key_g: "go to a name", key_numbers: "places to look from",
  key_zoom: "closer, further", key_l: "language", key_help: "this sheet", model: "Whole model",
  embedding: "Embedding", first_layer: "First layer", attention: "Attention", mlp: "Feed-forward (MLP)",
  last_layer: "Last layer", output: "Output", logits: "Logits",
};

export type Key = keyof typeof en;
export type Lang = "en" | "zh";

const zh: Record<Key, string> = {
  opening: "正在打开模型……", loading_step: "正在读取数值……", computing: "正在计算……",
  context_lost: "浏览器收回了图形资源，画面会自动恢复。", no_webgl: "此浏览器不提供 WebGL2，因此没有画面。大纲、检视面板和导览仍可使用。", close: "关闭",
  needs_server: "这是一份录制的页面。要输入自己的文本或修改数值，请运行：glassformer view",
  needs_tokenizer: "此模型没有分词器。请用词元编号开始：glassformer view MODEL --tokens 1,2,3", parameters: "{n} 个参数",
  random_weights: "随机权重", random_why: "这些权重没有经过训练，模型的输出没有意义。", shapes_only: "仅有形状",
  shapes_only_why: "没有载入这个模型的任何数值：斜线方块只表示大小。", shapes_only_cell: "这里没有载入数值，只知道形状。", settings: "设置", language: "语言",
  light_theme: "浅色主题", dark_theme: "深色主题", help: "帮助", go_to: "跳转", skip_to_scene: "跳到场景", walkthrough: "导览",
  contents: "目录", hide_panel: "隐藏此面板", progress: "已看 {n} / {of} 步", no_chapters: "没有适合此模型的章节，请自由浏览。",
  go_to_step: "转到第 {n} 步", play: "播放", pause: "暂停", next: "下一步", back: "上一步", begin_walk: "开始导览",
  press_space_before: "按", space_key: "空格键", press_space_after: "播放或暂停", scale_picture: "四个模型并排，每个格子一样大",
  zoom_to: "从 GPT-3 到 {name}", layers_of: "{n} 层，宽 {width}", scale_hatched: "斜线：形状是真的，没有数值。", scene: "场景",
  scene_label: "{name} 的三维视图", scene_help: "方向键在数值之间移动，回车键固定并解释一个数值。按问号查看全部按键。", text_enters: "文本从这里进入", view: "视图",
  whole_model: "整个模型", closer: "靠近", further: "远离", turn_left: "向左转", turn_right: "向右转", legend: "颜色", largest: "最大值",
  scale_title: "所指方块的第 99.5 百分位为最深颜色", positive: "正", negative: "负", masked: "被遮挡", role_weight: "学到的权重",
  role_computed: "计算结果", role_statistic: "统计量", role_input: "输入", role_gradient: "梯度", role_constant: "固定值",
  click_to_pin: "点击以拆解", take_apart: "拆解", and_more_terms: "……还有 {n} 项", all_others: "其余 {n} 项之和：{sum}",
  inspector: "检视", outline: "大纲", panels: "面板", raise_sheet: "展开面板", lower_sheet: "收起面板", trail: "回到词元的路径",
  trail_back: "后退", trail_forward: "前进", unpin: "取消固定", kind_weight: "学到的", kind_buffer: "固定值", kind_input: "输入",
  kind_constant: "常数", kind_computed: "计算得到", kind_gradient: "梯度", same_number_as: "与此数相同：",
  check_passed: "已在此重新计算：与模型算出的数一致。", check_failed: "已在此重新计算：与记录的数不一致。", spoken_passed: "重新计算，结果一致。",
  spoken_failed: "重新计算，结果不一致。", terms: "{n} 项，由大到小", one_term: "一项", terms_caption: "操作数与乘积", operands: "操作数",
  term: "项", show_all: "显示全部 {n} 项", show_fewer: "收起", largest_of: "{n} 项中最大的 {shown} 项。", comes_from: "来自",
  and_more: "……还有 {n} 个", arrived_at_token: "这个数来自外部输入：您已一路回到起点。", arrived_at_weight: "这个数是学到的，不是算出来的：路径到此为止。",
  computed_by: "由这一行代码计算", code_label: "{file} 第 {line} 行", in_module: "位于", copy_numpy: "复制为 NumPy",
  copy_latex: "复制为 LaTeX", copied: "已复制", show_block: "查看方块", unfold_steps: "展开中间步骤（{n}）", fold_steps: "收起中间步骤",
  change_number: "如果这个数不同会怎样？", set_zero: "设为零", run_again: "重新运行", before_change: "修改之前：",
  training: "训练",
  training_step: "第 {n} 步，共 {of} 步",
  training_ended: "训练已结束",
  loss: "损失",
  show_weights: "权重",
  show_gradients: "梯度",
  follow_training: "跟随",
  loss_curve: "损失从 {n} 降到 {to}",
  changed_blocks: "{of} 个方块中有 {n} 个与第 {run} 次运行不同，已点亮。", back_to_run: "回到第 {run} 次运行", what_next: "模型的预测",
  after_text: "读完整段文本后，模型预期：", after_token: "在位置 {n} 的“{token}”之后，模型预期：", what_attended: "注意力在看什么",
  choose_head: "选择一个注意力头，看它从哪些词元读取信息。", compared: "比较", look_inside: "看看里面", hint_point: "指向任意数值，查看它如何算出；点击即可拆解。",
  hint_shapes: "这里只有形状：放大看看它有多大。", hint_move: "拖动平移，滚轮缩放，右键拖动旋转。", hint_keys: "所有操作都有按键：", layer: "层", head: "注意力头",
  no_head: "无", no_attention: "这一层没有可显示的注意力权重。", attention_of: "第 {layer} 层第 {head} 个注意力头的权重", is_masked: "被遮挡：位于未来",
  playground: "试验台", open_playground: "试一试", close_playground: "收起", tokens_read: "模型读取的词元",
  token_title: "位置 {n}，词元编号 {id}", predicted: "最可能的", steps: "已记录的步骤", step_back: "后退一个词元",
  step_forward: "前进一个词元", history: "历史", step_of: "第 {n} / {of} 步", next_token: "下一个词元", your_text: "您的文本", run: "运行",
  pieces: "文本的各段", tokens_counted: "{n} 个词元", how_made: "“{piece}”如何变成词元", bytes: "字节", begin: "起初",
  text_that_runs: "模型读取的文本，请选择其中一段：", cut_n: "第 {n} 段", rank: "次序 {n}", rank_head: "次序", score: "得分 {n}",
  merge_tree: "“{piece}”的合并树", merge_told: "第 {n} / {of} 次合并：{left} + {right} → {joined}，次序 {rank}",
  merge_none: "第一次合并之前", merge_back: "退回一次合并", merge_on: "再合并一次", whole_token: "词表里就有这一整段。",
  by_merges: "在所有相邻的两段中，先合并次序最靠前的，直到没有可以合并的为止。", by_longest: "从左起，每次取词表里最长的片段。",
  by_path: "在所有切法中，取得分（概率的对数）之和最大的一种。", by_look_up: "这个分词器整个地查找词元，没有合并。",
  merge_n: "第 {n} 次合并", ids: "编号", run_shown: "运行", compare_with: "比较对象", no_run: "无", temperature: "温度", all: "全部",
  seed: "随机种子", reset_sampling: "恢复模型原本的分布", probabilities: "概率", no_logits: "此处没有记录预测。",
  other_tokens: "其余 {n} 个", see_logit: "编号 {id}：查看其未归一化得分（logits）的来源", go_to_example: "层 0 头 1 q[2,5]",
  found: "结果", nothing_found: "没有这个名称。", keyboard: "键盘", mouse: "鼠标", touch: "触摸", bookmarks: "数字键 1 到 9",
  the_check: "对勾的含义", mouse_help: "拖动平移，右键拖动或按住 Shift 拖动旋转，滚轮缩放。指向数值即可查看，点击固定，双击靠近所在方块。",
  touch_help: "单指平移，双指缩放与旋转。轻点数值查看，再点一次或长按即可固定。", the_check_help: "页面会用操作数重新计算每一个数。✓ 表示结果与记录的数在舍入允许的范围内一致；Δ 是两者之差。",
  key_space: "播放或暂停导览", key_tab: "切换区域", key_arrows: "在单元格间移动", key_shift_arrows: "移到方块边缘", key_enter: "固定单元格",
  key_s: "依次查看来源", key_esc: "撤回上一个操作", key_brackets: "前一个或后一个运算", key_page: "上一层或下一层", key_h: "下一个或上一个注意力头",
  key_steps: "后退或前进一步", key_n: "下一个词元", key_t: "温度", key_f: "对准所指之处", key_g: "跳转到名称", key_numbers: "预设视角",
  key_zoom: "靠近、远离", key_l: "语言", key_help: "本帮助", model: "整个模型", embedding: "嵌入", first_layer: "第一层",
  attention: "注意力", mlp: "前馈网络（MLP）", last_layer: "最后一层", output: "输出", logits: "未归一化得分（logits）",
};

export const WORDS: Record<Lang, Record<Key, string>> = { en, zh };

/** A text with its {values} filled in. */
export const say = (lang: Lang, key: Key, values: Record<string, string | number> = {}): string =>
  WORDS[lang][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
