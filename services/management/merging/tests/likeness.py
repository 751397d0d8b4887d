"""Pairs of reports as people write them: of one thing in other words, and of two things of one type on one street."""

SAME = (
    ("路灯不亮了，晚上走路很黑，请维修", "小区门口路灯坏了，夜里一片漆黑"),
    ("井盖丢失，路面有个大洞，非常危险", "人行道上一个井盖不见了，行人容易掉进洞里"),
    ("菜市场门口垃圾成堆，没人清理，气味难闻", "市场门前的垃圾堆了好几天没有清运，臭气熏天"),
    ("工地半夜施工，噪音太大，无法休息", "夜间工地还在施工，噪音扰民睡不着觉"),
    ("墙面被人喷了红色涂鸦", "围墙上有红色的喷漆涂鸦，影响市容"),
    ("暴雨后路口积水严重，车辆无法通行", "十字路口积水很深，车开不过去"),
    ("共享单车占满盲道，行人无法通过", "盲道上停满了共享单车，盲人没法走"),
    (
        "The street light outside the school is out, it is very dark",
        "Streetlight by the school does not work, dark at night",
    ),
    ("Manhole cover missing, big hole in the road", "There is a hole in the road where the manhole cover should be"),
    ("Garbage piled up behind the market and it smells", "Pile of smelly garbage bags behind the market"),
    ("Red graffiti tags on the retaining wall", "Somebody sprayed red tags on the wall"),
    ("Loud construction noise after midnight", "Construction crews working at night, noise keeps us awake"),
    ("Water is flooding the intersection, drain clogged", "Clogged storm drain, the intersection is flooded"),
    ("Abandoned blue mattress on the sidewalk", "Mattress dumped on sidewalk next to the bus stop"),
)
OTHER = (
    ("路灯不亮了，晚上走路很黑，请维修", "灯杆被车撞歪，随时可能倒下"),
    ("井盖丢失，路面有个大洞，非常危险", "雨水篦子被树叶堵住，排水不畅"),
    ("菜市场门口垃圾成堆，没人清理，气味难闻", "宠物粪便无人处理，草坪脏乱"),
    ("工地半夜施工，噪音太大，无法休息", "广场舞音响声音过大，影响孩子学习"),
    ("墙面被人喷了红色涂鸦", "电线杆贴满小广告"),
    ("暴雨后路口积水严重，车辆无法通行", "自来水管爆裂，水流不止"),
    ("共享单车占满盲道，行人无法通过", "机动车停在消防通道上"),
    ("The street light outside the school is out, it is very dark", "Lamp post was hit by a truck and is leaning"),
    ("Manhole cover missing, big hole in the road", "Pavement is cracked and uneven near the tram stop"),
    ("Garbage piled up behind the market and it smells", "Dog mess all over the grass in the park"),
    ("Red graffiti tags on the retaining wall", "Stickers and posters cover the parking meter"),
    ("Loud construction noise after midnight", "Neighbours play loud music every evening"),
    ("Water is flooding the intersection, drain clogged", "A hydrant is leaking on the corner"),
    ("Abandoned blue mattress on the sidewalk", "Broken glass next to the playground"),
)
