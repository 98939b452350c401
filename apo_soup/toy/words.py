"""Words of the small world. Keys and values are single tokens of its tokenizer when a space stands before them."""

KEYS = """lamp boat door cake ring book coat fork bell desk rope sand leaf drum kite nail
soap tent vase wool moon star rain snow wind fire rock tree seed corn milk salt
bread chair table spoon plate glass stone cloud river bridge tower wheel train plane truck horse
sheep goat duck frog fish crab bird lion bear wolf mouse clock watch phone""".split()

VALUES = """Ann Bob Tim Sue Joe Kim Max Eva Leo Ida Ben Amy Dan Liz Sam Zoe
Rome Oslo Lima Bonn Bern Cork Kiev Riga Lyon Nice Bath York Pisa Graz Brno Gent
Mars Luna Nova Zeta Iris Hugo Otto Emma Nora Alba Rosa Vera Lena Mina Tara Yara
Ivan Igor Olga Anna Karl Hans Lars Erik Paul Mark Luke John Mary Ruth Jane Kate""".split()

TOY_ADJECTIVES = "old young tall small big slow fast calm loud kind wild dark warm cold dry wet".split()
TOY_ANIMALS = "dog cat fox hen cow pig ant bee owl rat bat elk".split()
TOY_VERBS = "ran sat walked slept looked jumped came went stood sang played worked".split()
TOY_PLACES = "barn hill lake road field house wall gate park shop town yard wood farm hut cave".split()
