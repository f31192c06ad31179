import unittest

from stats import mean, median


class MeanTest(unittest.TestCase):
    def test_mean_of_some(self):
        self.assertEqual(mean([1, 2, 6]), 3)

    def test_mean_of_none(self):
        with self.assertRaises(ValueError):
            mean([])


class MedianTest(unittest.TestCase):
    def test_odd_number_of_values(self):
        self.assertEqual(median([9, 1, 5]), 5)

    def test_even_number_of_values(self):
        self.assertEqual(median([4, 1, 3, 2]), 2.5)

    def test_median_of_none(self):
        with self.assertRaises(ValueError):
            median([])


if __name__ == "__main__":
    unittest.main()
