"""What residents read of delivery's own accord, each in zh-CN and en."""

MERGED = (
    "您反映的事项已与同一事项的其他报告并案办理，编号不变。",
    "Your request is dealt with together with another report of the same thing. It keeps its number.",
)
SPLIT = (
    "您反映的事项已从并案中拆出，单独办理，编号不变。",
    "Your request had been taken for the same thing as another, and is dealt with on its own. It keeps its number.",
)
